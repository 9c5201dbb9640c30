"""Distances of pre-ReLU feature maps (OFD, Distilling Visual Priors)."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def _check_maps(student: Tensor, teacher: Tensor) -> torch.dtype:
    """Return the type to compute in."""
    if student.dim() != 4 or student.shape != teacher.shape:
        raise ValueError(
            f'maps of the student {tuple(student.shape)} and of the teacher '
            f'{tuple(teacher.shape)} must both be (N, C, H, W): choose '
            'networks of equal strides, and connectors to the width of the '
            'teacher'
        )
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    return torch.promote_types(dtype, torch.float32)


class _PartialSquares(torch.autograd.Function):
    """The sum, keeping the differences alone for its gradient.

    The maps of all stages are the largest tensors of a step: each pass over
    them counts.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, margin: Tensor):
        target = torch.maximum(teacher, margin[:, None, None])
        difference = student - target
        off = (target <= 0) & (difference <= 0)
        difference.masked_fill_(off, 0)
        ctx.save_for_backward(difference)
        return difference.square().sum() / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        (difference,) = ctx.saved_tensors
        return difference * (2 * gradient / len(difference)), None, None


def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    r"""Squared distance, but not where both are off anyway.

    .. math::
        L = \frac{1}{N} \sum_{n,c,h,w} d(T, S), \quad
        T = \max(F_t, m_c), \quad
        d(T, S) = \begin{cases} 0 & S \le T \le 0 \\
                                (T - S)^2 & \text{else.} \end{cases}

    `A Comprehensive Overhaul of Feature Distillation
    <https://arxiv.org/abs/1904.01866>`_, section 3.2 and 3.4, eq. 3 and 7.
    The sum grows with the area of the map.

    Args:
        student: ``(N, C, H, W)`` map before its ReLU, already of the
            teacher's width.
        teacher: ``(N, C, H, W)`` map before its ReLU, used without gradient.
        margin: ``(C,)`` lower bounds of the teacher's responses, see
            :func:`~mmssd.models.utils.batchnorm_margin`.

    Returns:
        Scalar, sum over C, H and W, mean over N, in at least float32.

    Raises:
        ValueError: if shapes do not agree.
    """
    dtype = _check_maps(student, teacher)
    if margin.shape != student.shape[1:2]:
        raise ValueError(
            f'margin {tuple(margin.shape)}: must be one per channel, '
            f'({student.size(1)},)'
        )
    with torch.autocast(student.device.type, enabled=False):
        return _PartialSquares.apply(
            student.to(dtype),
            teacher.detach().to(dtype),
            margin.detach().to(dtype),
        )


def feature_l2(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Plain squared distance of two maps.

    .. math::
        L = \frac{1}{N} \sum_{n,c,h,w} (F_t - S)^2

    "Distilling Visual Priors from Self-Supervised Learning"
    (https://arxiv.org/abs/2008.00261), eq. 4 as it is printed; its code
    has :func:`partial_l2`.

    Args:
        student: ``(N, C, H, W)`` map, already of the teacher's width.
        teacher: ``(N, C, H, W)`` map, used without gradient.

    Returns:
        Scalar, sum over C, H and W, mean over N, in at least float32.

    Raises:
        ValueError: if shapes do not agree.
    """
    dtype = _check_maps(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        s, t = student.to(dtype), teacher.detach().to(dtype)
        return (s - t).square().sum() / len(s)


@MODELS.register_module()
class PartialL2Loss(nn.Module):
    """Module form of :func:`partial_l2`."""

    def forward(
        self, student: Tensor, teacher: Tensor, margin: Tensor
    ) -> Tensor:
        """Return the scalar loss of two maps."""
        return partial_l2(student, teacher, margin)
