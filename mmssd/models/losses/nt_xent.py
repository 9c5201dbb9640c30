"""Contrast of two views within a batch: SimCLR."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .swapped_prediction import check_temperature


def nt_xent(
    rows: Tensor,
    everything: Tensor,
    own: Tensor,
    positives: Tensor,
    temperature: float = 0.1,
) -> Tensor:
    r"""Normalised temperature-scaled cross-entropy.

    .. math::
        L = -\frac{1}{n} \sum_i \log
        \frac{e^{z_i z_{p(i)} / \tau}}{\sum_{k \ne i} e^{z_i z_k / \tau}}

    over unit rows z of both views of all images. `A Simple Framework for
    Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, eq. 1.

    Args:
        rows: ``(n, D)`` embeddings whose terms count, normalised here.
        everything: ``(M, D)`` embeddings they are compared with, themselves
            among them, normalised here. Gets a gradient, too.
        own: ``(n,)`` place of each row in ``everything``.
        positives: ``(n,)`` place of its other view.
        temperature: :math:`\tau` > 0.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or a temperature that is not
            positive and finite.
    """
    check_temperature(temperature)
    if (
        rows.dim() != 2
        or everything.dim() != 2
        or rows.size(1) != everything.size(1)
        or own.shape != rows.shape[:1]
        or positives.shape != rows.shape[:1]
    ):
        raise ValueError(
            f'rows {tuple(rows.shape)}, everything '
            f'{tuple(everything.shape)}, own {tuple(own.shape)}, positives '
            f'{tuple(positives.shape)}: must be (n, D), (M, D), (n,), (n,)'
        )
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        z = F.normalize(rows.to(dtype), dim=1)
        others = F.normalize(everything.to(dtype), dim=1)
        scores = z @ others.T / temperature
        itself = F.one_hot(own, len(everything)).bool()
        scores = scores.masked_fill(itself, float('-inf'))
        return F.cross_entropy(scores, positives)
