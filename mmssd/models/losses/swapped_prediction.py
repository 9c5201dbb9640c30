"""Predicting one view's code from another view (SwAV, OSS)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn


def check_temperature(value: float, name: str = 'temperature') -> None:
    """Raise ``ValueError`` unless a temperature is positive and finite."""
    if not (isinstance(value, (int, float)) and 0 < value < float('inf')):
        raise ValueError(f'{name}={value!r}: must be positive and finite')


def swapped_prediction(
    scores: Tensor, codes: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""Cross-entropy between codes and the scores of another view.

    .. math::
        \ell = \frac{1}{B} \sum_b \Big[ - \sum_k q_{bk}
        \log \mathrm{softmax}(s_b / \tau)_k \Big]

    `Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments <https://arxiv.org/abs/2006.09882>`_, eq. 2; OSS, eq. 3.
    Mean over the B rows, sum over the K prototypes.

    Args:
        scores: ``(B, K)`` similarities to the prototypes, any float dtype;
            computed in at least float32.
        codes: ``(B, K)`` targets, used without gradient.
        temperature: :math:`\tau` > 0. SwAV's default 0.1.

    Returns:
        Scalar.

    Raises:
        ValueError: if the shapes differ or the temperature is not positive.
    """
    check_temperature(temperature)
    if scores.shape != codes.shape or scores.dim() != 2:
        raise ValueError(
            f'scores {tuple(scores.shape)} and codes {tuple(codes.shape)} '
            'must both be (rows, prototypes)'
        )
    dtype = torch.promote_types(scores.dtype, torch.float32)
    with torch.autocast(scores.device.type, enabled=False):
        log_p = F.log_softmax(scores.to(dtype) / temperature, dim=1)
        return -(codes.detach().to(dtype) * log_p).sum(dim=1).mean()


@MODELS.register_module()
class SwappedPredictionLoss(nn.Module):
    """Module form of :func:`swapped_prediction`.

    Args:
        temperature: see :func:`swapped_prediction`.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, codes: Tensor) -> Tensor:
        """Return the scalar loss of ``(B, K)`` scores and codes."""
        return swapped_prediction(scores, codes, self.temperature)
