"""Distillation of class scores (KD)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .swapped_prediction import check_temperature

REDUCTIONS = ('batchmean', 'mean')


def logit_distillation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    reduction: str = 'batchmean',
) -> Tensor:
    r"""Divergence of softened class probabilities.

    .. math::
        L = \frac{T^2}{N} \sum_n \mathrm{KL}\big(
        \mathrm{softmax}(t_n / T) \,\|\, \mathrm{softmax}(s_n / T) \big)

    `Distilling the Knowledge in a Neural Network
    <https://arxiv.org/abs/1503.02531>`_, section 2. :math:`T^2` keeps the
    size of the gradient.

    Args:
        student: ``(N, K)`` logits.
        teacher: ``(N, K)`` logits of the same images, used without gradient.
        temperature: T > 0.
        reduction: ``'batchmean'``, the mean over images; or ``'mean'``, over
            images and classes, K times weaker, as the code of DisCo has it.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: if shapes differ or an argument is out of range.
    """
    check_temperature(temperature)
    if reduction not in REDUCTIONS:
        raise ValueError(
            f'reduction={reduction!r}: must be one of {REDUCTIONS}'
        )
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            f'logits of the student {tuple(student.shape)} and of the '
            f'teacher {tuple(teacher.shape)} must both be (N, classes)'
        )
    dtype = torch.promote_types(student.dtype, torch.float32)
    with torch.autocast(student.device.type, enabled=False):
        s = F.log_softmax(student.to(dtype) / temperature, dim=1)
        t = teacher.detach().to(dtype) / temperature
        t = F.log_softmax(t, dim=1)
        divergence = F.kl_div(s, t, reduction='batchmean', log_target=True)
        classes = student.size(1) if reduction == 'mean' else 1
        return temperature**2 * divergence / classes


@MODELS.register_module()
class LogitDistillationLoss(nn.Module):
    """Module form of :func:`logit_distillation`.

    Args:
        temperature, reduction: see there.
    """

    def __init__(
        self, temperature: float = 2.0, reduction: str = 'batchmean'
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss."""
        return logit_distillation(
            student, teacher, self.temperature, self.reduction
        )
