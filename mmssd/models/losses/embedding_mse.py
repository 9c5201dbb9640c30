"""Squared distance of unit embeddings (DisCo, Reg)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn


def check_rows(student: Tensor, teacher: Tensor) -> torch.dtype:
    """Return the type to compute in.

    Raises:
        ValueError: unless both are rows of equal number and width.
    """
    if student.shape != teacher.shape or student.dim() != 2:
        raise ValueError(
            f'student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} must be rows of equal number and width'
        )
    return torch.promote_types(
        torch.promote_types(student.dtype, teacher.dtype), torch.float32
    )


def embedding_mse(
    student: Tensor, teacher: Tensor, raw_target: bool = False
) -> Tensor:
    r"""Squared distance between unit embeddings, mean over rows.

    .. math::
        L = \frac{1}{N} \sum_n \lVert u(s_n) - u(t_n) \rVert^2
        = \frac{1}{N} \sum_n (2 - 2 \cos(s_n, t_n))

    `DisCo <https://arxiv.org/abs/2104.09124>`_, section 3.2. The published
    code sums over the batch of one process (32 images), which the weight of
    a head has to make up for.

    Args:
        student: ``(N, D)`` rows, normalised here.
        teacher: ``(N, D)`` rows, normalised here; used without gradient.
        raw_target: take the teacher's rows as they are instead (the code of
            DisCo on SwAV).

    Returns:
        Scalar, in at least float32; in [0, 4] unless the target is raw.

    Raises:
        ValueError: for shapes that differ.
    """
    dtype = check_rows(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        s = F.normalize(student.to(dtype), dim=1)
        t = teacher.detach().to(dtype)
        if not raw_target:
            t = F.normalize(t, dim=1)
        return (s - t).square().sum(dim=1).mean()


@MODELS.register_module()
class EmbeddingMSELoss(nn.Module):
    """Module form of :func:`embedding_mse`."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss of ``(N, D)`` rows."""
        return embedding_mse(student, teacher)
