import pytest
import torch
from mmpretrain.registry import MODELS

from mmssd.models.utils.gradient_reversal import (
    GradientReversal,
    reverse_gradient,
)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_identity_forward(dtype):
    x = torch.randn(3, 4, dtype=dtype)
    y = GradientReversal(0.3)(x)
    assert torch.equal(y, x) and y.dtype == dtype


@pytest.mark.parametrize('alpha', [0.0, 0.25, 1.0, 3.7])
def test_backward_is_exactly_minus_alpha_times_the_gradient(alpha):
    x = torch.randn(5, 3, requires_grad=True)
    incoming = torch.randn(5, 3)
    reverse_gradient(x, alpha).backward(incoming)
    assert torch.equal(x.grad, -alpha * incoming)


def test_default_is_plain_reversal():
    x = torch.randn(4, requires_grad=True)
    GradientReversal()(x).backward(torch.ones(4))
    assert torch.equal(x.grad, -torch.ones(4))


def test_against_finite_differences_in_float64():
    # d f(R(x)) / dx is by definition -alpha f'(x)
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def f(x):
        return (x.sin() * x.exp()).sum()

    f(reverse_gradient(x, 0.7)).backward()
    step = 1e-6
    for i in range(6):
        delta = torch.zeros(6, dtype=torch.float64)
        delta[i] = step
        with torch.no_grad():
            slope = (f(x + delta) - f(x - delta)) / (2 * step)
        torch.testing.assert_close(
            x.grad[i], -0.7 * slope, rtol=1e-7, atol=1e-8
        )


def test_twice_reversed_is_straight():
    x = torch.randn(4, requires_grad=True)
    y = reverse_gradient(reverse_gradient(x, 2.0), 0.5)
    y.backward(torch.ones(4))
    assert torch.equal(x.grad, torch.ones(4))


def test_input_is_not_changed():
    x = torch.randn(4)
    before = x.clone()
    reverse_gradient(x.requires_grad_()).sum().backward()
    assert torch.equal(x.detach(), before)


def test_registered():
    module = MODELS.build(dict(type='GradientReversal', alpha=0.5))
    assert isinstance(module, GradientReversal)
    assert 'alpha=0.5' in repr(module)
    assert not list(module.parameters())


@pytest.mark.parametrize('alpha', [-1.0, float('nan')])
def test_strength_out_of_range(alpha):
    with pytest.raises(ValueError, match=f'alpha={alpha}: .* must be >= 0'):
        GradientReversal(alpha)
