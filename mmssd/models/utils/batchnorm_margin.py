"""Margins of a teacher's pre-ReLU maps, from its last batch norm."""

import math

import torch
from torch import Tensor

# Beyond this mean / deviation the difference below would cancel in float64.
SERIES_FROM = 1e2


def _negative_mean(ratio: Tensor) -> Tensor:
    r"""Mean of N(r, 1) given that it is negative, in float64.

    :math:`r - \phi(r) / \Phi(-r)`, by the scaled complementary error
    function, so that neither factor underflows.
    """
    hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(ratio / math.sqrt(2))
    inverse = ratio.clamp(min=1).reciprocal()
    series = -inverse + 2 * inverse**3 - 10 * inverse**5
    return torch.where(ratio > SERIES_FROM, series, ratio - hazard)


@torch.no_grad()
def batchnorm_margin(
    weight: Tensor, bias: Tensor, min_probability: float = 1e-3
) -> Tensor:
    r"""Mean of the negative responses of a batch norm, per channel.

    With :math:`\sigma = |\gamma|`, :math:`\mu = \beta` and x drawn from
    :math:`\mathcal N(\mu, \sigma^2)`,

    .. math::
        m = E[x \mid x < 0]
          = \mu - \sigma\, \frac{\phi(\mu/\sigma)}{\Phi(-\mu/\sigma)},
        \qquad m = -3\sigma \text{ where }
        \Phi(-\mu/\sigma) \le p_{\min} .

    `A Comprehensive Overhaul of Feature Distillation
    <https://arxiv.org/abs/1904.01866>`_, section 3.2, eq. 4; the second case
    is that of its code. It uses the affine parameters, not the running
    statistics, and does not see a shortcut that is added afterwards.

    Args:
        weight: gamma, ``(C,)``.
        bias: beta, ``(C,)``.
        min_probability: :math:`p_{\min}` in [0, 1); 0 gives the mean
            everywhere, however rare a negative response is. Defaults to
            1e-3.

    Returns:
        ``(C,)`` margins <= 0 in at least float32, computed in float64. A
        channel of weight zero is constant: min(beta, 0).

    Raises:
        ValueError: if the shapes differ or are not ``(C,)``, or
            ``min_probability`` is out of range.
    """
    if weight.dim() != 1 or weight.shape != bias.shape:
        raise ValueError(
            f'weight {tuple(weight.shape)} and bias {tuple(bias.shape)} of a '
            'batch norm: must both be (C,)'
        )
    if not 0 <= min_probability < 1:
        raise ValueError(
            f'min_probability={min_probability}: must be in [0, 1)'
        )
    dtype = torch.promote_types(weight.dtype, torch.float32)
    deviation, mean = weight.double().abs(), bias.double()
    constant = deviation == 0
    ratio = mean / deviation.masked_fill(constant, 1)
    margin = deviation * _negative_mean(ratio)
    rare = torch.special.ndtr(-ratio) <= min_probability
    if min_probability > 0:
        margin = torch.where(rare, -3 * deviation, margin)
    margin = torch.where(constant, mean.clamp(max=0), margin)
    return margin.to(dtype)
