"""The information plane of a representation."""

import numpy as np
import torch
from torch import Tensor

from .knn import check_labels


def _entropy(counts: Tensor) -> float:
    """Entropy in bits of the empirical distribution given by counts."""
    p = counts.double() / counts.sum()
    return max(0.0, -(p * p.log2()).sum().item())


def mutual_information(
    activations: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    bins: int = 30,
) -> tuple[float, float]:
    r"""Estimate what a representation keeps of its input and of the label.

    Every activation is cut into equal bins; the tuple of the bins of a row
    is its symbol T. As T is a function of the input X, with n rows,

    .. math::
        I(X; T) = H(T), \qquad
        I(T; Y) = H(T) + H(Y) - H(T, Y)

    with the entropies of the empirical distributions. The bins are
    :math:`(i/b, (i+1)/b]`, closed on the right; 0 belongs to the first.

    The information plane of `DisCo <https://arxiv.org/abs/2104.09124>`_,
    section 3.3, where the activations are the softmax of a linear probe on
    the first 1000 training images. Both values are at most
    :math:`\log_2 n`, and I(T; Y) at most H(Y); with few rows both are
    estimated too high.

    Note:
        The authors' estimator counts some repeated symbols as new ones, and
        an activation of exactly 0 as unequal to itself, so its values are
        larger still.

    Args:
        activations: ``(n, d)`` floats in [0, 1].
        labels: ``(n,)`` class indices.
        bins: number b of bins per activation. Defaults to 30 (DisCo).

    Returns:
        I(X; T) and I(T; Y) in bits.

    Raises:
        ValueError: if shapes do not fit, there are no rows, ``bins`` is not
            positive, or an activation is not in [0, 1].
        TypeError: if activations are not floats or labels not integers.
    """
    activations = torch.as_tensor(activations).detach()
    if activations.dim() != 2 or 0 in activations.shape:
        raise ValueError(
            f'activations of shape {tuple(activations.shape)}: expected '
            '(rows, width)'
        )
    if not activations.is_floating_point():
        raise TypeError(
            f'activations of type {activations.dtype}: expected floats'
        )
    if bins < 1:
        raise ValueError(f'bins={bins}: must be at least 1')
    labels = check_labels('labels', torch.as_tensor(labels), len(activations))
    inside = (activations >= 0) & (activations <= 1)
    if not inside.all():
        value = activations[~inside][0].item()
        raise ValueError(
            f'activation {value}: must be in [0, 1]; apply softmax or a '
            'sigmoid first'
        )

    # borders in the type of the activations, so that 0.1 meets 3 / 30
    upper = torch.arange(1, bins + 1, dtype=torch.float64) / bins
    upper = upper.to(activations)
    symbols = torch.bucketize(activations.contiguous(), upper)
    _, symbol, counts = symbols.unique(
        dim=0, return_inverse=True, return_counts=True
    )
    labels = labels.to(symbol.device)
    pairs = torch.stack([symbol, labels], dim=1)
    joint = pairs.unique(dim=0, return_counts=True)[1]
    h_t = _entropy(counts)
    h_y = _entropy(labels.unique(return_counts=True)[1])
    return h_t, max(0.0, h_t + h_y - _entropy(joint))
