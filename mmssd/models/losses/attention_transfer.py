"""Transfer of spatial attention maps (AT)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn


def _attention(maps: Tensor) -> Tensor:
    """Unit rows ``(N, H * W)`` of the mean squared activation."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared distance of normalised attention maps.

    .. math::
        L = \frac{1}{N H W} \sum_{n,h,w}
        \big(a(S_n)_{hw} - a(T_n)_{hw}\big)^2, \quad
        a(F) = u\big(\mathrm{vec} \tfrac{1}{C} \textstyle\sum_c F_c^2\big)

    `Paying More Attention to Attention <https://arxiv.org/abs/1612.03928>`_,
    section 3.1.

    Args:
        student: ``(N, C_S, H, W)`` map.
        teacher: ``(N, C_T, H, W)`` map of the same images, used without
            gradient.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: if number or size of the maps differ.
    """
    if student.dim() != 4 or (student.shape[0], *student.shape[2:]) != (
        teacher.shape[0],
        *teacher.shape[2:],
    ):
        raise ValueError(
            f'maps of the student {tuple(student.shape)} and of the teacher '
            f'{tuple(teacher.shape)} must agree in N, H and W: choose stages '
            'of equal stride'
        )
    dtype = torch.promote_types(student.dtype, torch.float32)
    with torch.autocast(student.device.type, enabled=False):
        s = _attention(student.to(dtype))
        t = _attention(teacher.detach().to(dtype))
        return (s - t).square().mean()


@MODELS.register_module()
class AttentionTransferLoss(nn.Module):
    """Module form of :func:`attention_transfer`."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of two maps."""
        return attention_transfer(student, teacher)
