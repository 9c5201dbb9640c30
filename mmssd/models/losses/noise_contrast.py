"""Noise-contrastive estimation against a memory: CRD."""

import torch
from torch import Tensor

from .swapped_prediction import check_temperature


def match_scores(
    rows: Tensor, anchors: Tensor, temperature: float = 0.07
) -> Tensor:
    r"""Unnormalised probabilities of a match, :math:`e^{v_n a_{nj}/\tau}`.

    Args:
        rows: ``(N, D)`` unit rows v.
        anchors: ``(N, 1 + m, D)`` rows of the memory, the positive first; no
            gradient.
        temperature: :math:`\tau` > 0.

    Returns:
        ``(N, 1 + m)``, in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or a temperature that is not
            positive and finite.
    """
    check_temperature(temperature)
    if (
        rows.dim() != 2
        or anchors.dim() != 3
        or anchors.shape[::2] != rows.shape
    ):
        raise ValueError(
            f'rows {tuple(rows.shape)} and anchors {tuple(anchors.shape)}: '
            'must be (N, D) and (N, 1 + m, D)'
        )
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        scores = torch.einsum(
            'nd,njd->nj', rows.to(dtype), anchors.detach().to(dtype)
        )
        return (scores / temperature).exp()


def noise_contrast(
    scores: Tensor, constant: Tensor | float, population: int
) -> Tensor:
    r"""Tell the true pair from m pairs drawn from noise.

    With :math:`P_{nj} = s_{nj} / Z` and noise uniform over the M images of
    the training set,

    .. math::
        L = -\frac{1}{N} \sum_n \Big[
        \log \frac{P_{n0}}{P_{n0} + m/M} +
        \sum_{j=1}^{m} \log \frac{m/M}{P_{nj} + m/M} \Big]

    `Contrastive Representation Distillation
    <https://arxiv.org/abs/1910.10699>`_, eq. 10 and 18, with the constant of
    its code.

    Args:
        scores: ``(N, 1 + m)`` positive scores s of :func:`match_scores`, the
            true pair first.
        constant: Z > 0; no gradient.
        population: M, images of the training set.

    Returns:
        Scalar, in the dtype of the scores.

    Raises:
        ValueError: if there is no noise, or M is not positive.
    """
    noise = scores.size(1) - 1
    if noise < 1:
        raise ValueError(
            f'scores of shape {tuple(scores.shape)}: need at least one noise '
            'pair beside the true one'
        )
    if population < 1:
        raise ValueError(f'population={population}: must be >= 1')
    odds = noise / population
    # log(P / (P + c)) = -log1p(c / P), log(c / (P + c)) = -log1p(P / c)
    p = scores / constant
    true = torch.log1p(odds / p[:, 0])
    false = torch.log1p(p[:, 1:] / odds).sum(1)
    return (true + false).mean()
