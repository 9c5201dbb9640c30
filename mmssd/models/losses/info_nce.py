"""Contrast of a positive key against a queue (MoCo, with a margin)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .swapped_prediction import check_temperature


def info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float = 0.2,
    margin: float = 0.0,
) -> Tensor:
    r"""InfoNCE with an optional margin on the positive.

    .. math::
        L = -\frac{1}{N} \sum_n \log
        \frac{e^{(q_n k_n - m)/\tau}}
        {e^{(q_n k_n - m)/\tau} + \sum_j e^{q_n d_j / \tau}}

    with unit rows q and k. `Momentum Contrast
    <https://arxiv.org/abs/1911.05722>`_, eq. 1; the margin m on the cosine:
    `Distilling Visual Priors <https://arxiv.org/abs/2008.00261>`_, eq. 2.

    Args:
        query: ``(N, D)`` rows, normalised here.
        key: ``(N, D)`` positives, normalised here. Gets a gradient if it
            wants one; a key encoder's should be detached.
        queue: ``(K, D)`` negatives as they are; no gradient.
        temperature: :math:`\tau` > 0.
        margin: m, 0 for MoCo; Visual Priors uses 0.4.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or a temperature or margin
            out of range.
    """
    check_temperature(temperature)
    check_margin(margin)
    if (
        query.shape != key.shape
        or query.dim() != 2
        or queue.shape[1:] != query.shape[1:]
    ):
        raise ValueError(
            f'query {tuple(query.shape)}, key {tuple(key.shape)} and queue '
            f'{tuple(queue.shape)} must be rows of one width, one key for '
            'each query'
        )
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query = F.normalize(query.to(dtype), dim=1)
        key = F.normalize(key.to(dtype), dim=1)
        positive = (query * key).sum(dim=1, keepdim=True) - margin
        negatives = query @ queue.detach().to(dtype).t()
        logits = torch.cat([positive, negatives], dim=1) / temperature
        # the positive is column 0
        return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def in_batch_info_nce(
    query: Tensor,
    keys: Tensor,
    start: int = 0,
    temperature: float = 0.2,
    margin: float = 0.0,
) -> Tensor:
    r"""InfoNCE against the other keys of the batch, with gradient.

    .. math::
        L = -\frac{1}{N} \sum_n \log
        \frac{e^{(q_n k_{s+n} - m)/\tau}}
        {e^{(q_n k_{s+n} - m)/\tau} + \sum_{j \ne s+n} e^{q_n k_j / \tau}}

    with unit rows q and k: contrast without queue and momentum encoder, an
    option of the code of `Distilling Visual Priors
    <https://arxiv.org/abs/2008.00261>`_.

    Args:
        query: ``(N, D)`` rows, normalised here.
        keys: ``(M, D)`` rows of all processes, normalised here; both sides
            get a gradient.
        start: s, row of ``keys`` that belongs to the first query.
        temperature: :math:`\tau` > 0.
        margin: m, on the cosine of the positive.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: for shapes that do not fit, or a temperature or margin
            out of range.
    """
    check_temperature(temperature)
    check_margin(margin)
    number = len(query)
    if (
        query.dim() != 2
        or keys.shape[1:] != query.shape[1:]
        or not 0 <= start <= len(keys) - number
    ):
        raise ValueError(
            f'query {tuple(query.shape)} and keys {tuple(keys.shape)} must '
            'be rows of one width, a key for each query from row '
            f'start={start} on'
        )
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query = F.normalize(query.to(dtype), dim=1)
        keys = F.normalize(keys.to(dtype), dim=1)
        own = torch.eye(
            number, len(keys), dtype=dtype, device=query.device
        ).roll(start, dims=1)
        logits = (query @ keys.t() - margin * own) / temperature
        positive = (logits * own).sum(dim=1)
        return (logits.logsumexp(dim=1) - positive).mean()


def check_margin(margin: float) -> None:
    """Raise ``ValueError`` unless a margin is a cosine difference."""
    if not 0 <= margin < 2:
        raise ValueError(
            f'margin={margin}: must be in [0, 2), it is subtracted from a '
            'cosine'
        )


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """Module form of :func:`info_nce`.

    Args:
        temperature, margin: see there.
    """

    def __init__(self, temperature: float = 0.2, margin: float = 0.0) -> None:
        super().__init__()
        check_temperature(temperature)
        check_margin(margin)
        self.temperature = temperature
        self.margin = margin

    def forward(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """Return the scalar loss."""
        return info_nce(query, key, queue, self.temperature, self.margin)
