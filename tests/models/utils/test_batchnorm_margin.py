"""Margins against integrals of the truncated normal."""

import math

import pytest
import torch
from scipy import integrate, stats

from mmssd.models.utils.batchnorm_margin import batchnorm_margin


def margin(weight, bias, **kwargs):
    weight, bias = (
        torch.tensor([float(x)], dtype=torch.float64) for x in (weight, bias)
    )
    return batchnorm_margin(weight, bias, **kwargs).item()


def integral(weight, bias):
    """Mean of N(bias, weight^2) below zero, by quadrature.

    The density is divided by that at its largest point below zero, which
    cancels, so that rare events do not underflow.
    """
    deviation = abs(weight)
    peak = min(bias, 0)

    def density(x):
        return math.exp(
            ((peak - bias) ** 2 - (x - bias) ** 2) / (2 * deviation**2)
        )

    # decay length: deviation, or faster far from the mean
    scale = deviation / max(1, bias / deviation)
    low = peak - 40 * scale
    points = [peak - k * scale for k in (10, 5, 2, 1)]
    options = dict(points=points, limit=200, epsabs=0, epsrel=1e-11)
    mass = integrate.quad(density, low, 0, **options)[0]
    first = integrate.quad(lambda x: x * density(x), low, 0, **options)[0]
    return first / mass


@pytest.mark.parametrize(
    'weight, bias',
    [(1, 0), (1, 1.5), (0.3, -0.2), (-2, 1), (1, 3), (0.5, -8), (2, -3)],
)
def test_mean_of_the_truncated_normal(weight, bias):
    expected = integral(weight, bias)
    assert margin(weight, bias) == pytest.approx(expected, rel=1e-9)
    # the library's own, where it is exact
    truncated = stats.truncnorm(
        -math.inf, -bias / abs(weight), loc=bias, scale=abs(weight)
    )
    assert expected == pytest.approx(truncated.mean(), rel=1e-6)


def test_by_hand():
    """N(0, 1): -phi(0) / Phi(0) = -2 / sqrt(2 pi)."""
    expected = -2 / math.sqrt(2 * math.pi)
    assert expected == pytest.approx(-0.797885, abs=1e-6)
    assert margin(1, 0) == pytest.approx(expected, rel=1e-12)
    assert margin(3, 0) == pytest.approx(3 * expected, rel=1e-12)


@pytest.mark.parametrize('ratio', [4, 8, 30, 60, 99, 101, 999, 1e4])
def test_far_in_the_tail(ratio):
    """Published: -3 sigma; asked for: the mean, however rare."""
    assert margin(0.5, 0.5 * ratio) == -1.5
    exact = margin(0.5, 0.5 * ratio, min_probability=0)
    assert exact == pytest.approx(integral(0.5, 0.5 * ratio), rel=1e-8)
    # -sigma / r (1 - 2 / r^2 + 10 / r^4 - ...)
    bound = -0.5 / ratio * (1 - 2 / ratio**2 + 10 / ratio**4)
    assert -0.5 / ratio < exact
    assert bound * (1 + 1e-12) < exact


def test_rarity_decides_at_the_stated_probability():
    edge = stats.norm.isf(1e-3)  # 3.0902
    assert margin(1, edge - 1e-6) == pytest.approx(integral(1, edge), rel=1e-4)
    assert margin(1, edge + 1e-6) == -3
    assert margin(1, 0, min_probability=0.6) == -3


@pytest.mark.parametrize('bias', [-50, -1e4])
def test_always_negative_channel_keeps_its_mean(bias):
    assert margin(1, bias) == bias


@pytest.mark.parametrize(
    'bias, expected', [(0.0, 0.0), (-0.4, -0.4), (0.7, 0.0)]
)
def test_zero_weight_is_a_constant(bias, expected):
    for probability in (1e-3, 0):
        assert margin(0, bias, min_probability=probability) == expected
    # the limit of small weights
    assert margin(1e-9, bias) == pytest.approx(expected, abs=1e-8)


def test_shape_type_and_gradient():
    norm = torch.nn.BatchNorm2d(4)
    found = batchnorm_margin(norm.weight, norm.bias)
    assert found.shape == (4,) and found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.full((4,), -0.79788456))
    half = batchnorm_margin(norm.weight.half(), norm.bias.half())
    assert half.dtype == torch.float32


def test_refuses_what_is_no_batch_norm():
    with pytest.raises(ValueError, match=r'weight \(3,\) and bias \(2,\)'):
        batchnorm_margin(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match=r'must both be \(C,\)'):
        batchnorm_margin(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(ValueError, match='min_probability=1'):
        batchnorm_margin(torch.ones(3), torch.ones(3), min_probability=1)
