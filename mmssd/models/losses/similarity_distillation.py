"""Matching similarity distributions over a queue (SEED, CompRess)."""

import math

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .swapped_prediction import check_temperature

# Scores of one block of rows: 16 MiB in float32, whatever N and K.
BLOCK = 2**22


def _float(*tensors: Tensor) -> torch.dtype:
    """At least float32; float64 if any tensor is."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the products of two ``(R, K)`` tensors, without a third."""
    return torch.bmm(a[:, None], b[:, :, None]).sum()


class _QueueDivergence(torch.autograd.Function):
    """Divergence of two distributions over queue rows, block by block.

    The gradient needs the softmax of all N x K scores, but its result is
    N x D: it is computed along with the value, and the scores are dropped.
    """

    @staticmethod
    def forward(
        ctx,
        student: Tensor,
        teacher: Tensor,
        student_queue: Tensor,
        teacher_queue: Tensor,
        student_temperature: float,
        teacher_temperature: float,
        own_anchor: bool,
        subtract_entropy: bool,
    ) -> Tensor:
        number, own = len(student_queue), int(own_anchor)
        rows = min(len(student), max(1, BLOCK // max(1, number)))
        least = math.log(torch.finfo(student.dtype).tiny) + 1
        # all that is N x K at any time
        buffers = student.new_empty(3 * rows, own + number)
        total = student.new_zeros(())
        gradient = torch.empty_like(student)
        for start in range(0, len(student), rows):
            block = slice(start, start + rows)
            s, t = student[block], teacher[block]
            # three tensors of scores, the first two without a gap
            parts = buffers[: 3 * len(s)].chunk(3)
            if student_queue is teacher_queue:  # read once for both
                both = buffers[: 2 * len(s), own:]
                torch.mm(torch.cat([t, s]), teacher_queue.t(), out=both)
            else:
                torch.mm(t, teacher_queue.t(), out=parts[0][:, own:])
                torch.mm(s, student_queue.t(), out=parts[1][:, own:])
            if own_anchor:
                parts[0][:, 0] = (t * t).sum(1)
                parts[1][:, 0] = (s * t).sum(1)
            parts[0].div_(teacher_temperature)
            parts[1].div_(student_temperature)
            log_p = torch.log_softmax(parts[0], 1, out=parts[2])
            log_q = torch.log_softmax(parts[1], 1, out=parts[0])
            # below, exponentials are subnormal: on a CPU 40 times slower
            p = torch.clamp(log_p, min=least, out=parts[1]).exp_()
            total -= _row_products(p, log_q)
            if subtract_entropy:
                total += _row_products(p, log_p)
            error = log_q.exp_().sub_(p)
            torch.mm(error[:, own:], student_queue, out=gradient[block])
            if own_anchor:
                gradient[block].addcmul_(error[:, :1], t)
        ctx.save_for_backward(
            gradient.div_(student_temperature * len(student))
        )
        return total / len(student)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (gradient,) = ctx.saved_tensors
        return grad * gradient, *[None] * 7


def _check(
    student: Tensor, teacher: Tensor, queues: dict[str, tuple[Tensor, Tensor]]
) -> None:
    if student.dim() != 2 or len(student) != len(teacher) or not len(student):
        raise ValueError(
            f'student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} must be rows of the same images'
        )
    for name, (queue, rows) in queues.items():
        if queue.dim() != 2 or queue.size(1) != rows.size(1):
            raise ValueError(
                f'{name} {tuple(queue.shape)} does not fit rows of width '
                f'{rows.size(1)}'
            )


def similarity_distillation(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.01,
) -> Tensor:
    r"""Cross-entropy between similarity distributions over a queue (SEED).

    With unit rows s of the student and t of the teacher, and the anchors
    :math:`A = (t, d_1, \dots, d_K)`, the teacher's own embedding and the
    queue:

    .. math::
        L = -\frac{1}{N} \sum_n \sum_j
        \mathrm{softmax}_j(t_n A^T / \tau_T)
        \log \mathrm{softmax}_j(s_n A^T / \tau_S)

    `SEED: Self-supervised Distillation For Visual Representation
    <https://arxiv.org/abs/2101.04731>`_, section 3.2.

    Memory: scores are held for a block of rows at a time, three tensors of
    at most 4 Mi numbers (or of one row), whatever N; what is kept for the
    backward pass is the gradient of the student rows, N x D. Second
    derivatives are not available.

    Precision: under autocast, too, the value is within 1e-4 (relative) of
    that in float64 on the same rows, down to a teacher temperature of 1e-4.
    Rows that a network gives in bfloat16 are rounded before they come here:
    that moves a cosine by at most :math:`2^{-8}`, 0.004, if both of its rows
    are, so a teacher's logit by :math:`0.004 / \tau_T`.

    Args:
        student: ``(N, D)`` rows, normalised here.
        teacher: ``(N, D)`` rows of the same images, normalised here; used
            without gradient.
        queue: ``(K, D)`` earlier teacher rows, as they are; no gradient.
        student_temperature: :math:`\tau_S` > 0.
        teacher_temperature: :math:`\tau_T` > 0. The published code has
            1e-4, close to a one-hot target on the own anchor.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: for shapes that do not fit or a temperature that is not
            positive and finite.
    """
    check_temperature(student_temperature, 'student_temperature')
    check_temperature(teacher_temperature, 'teacher_temperature')
    _check(student, teacher, dict(queue=(queue, teacher)))
    if student.shape != teacher.shape:
        raise ValueError(
            f'student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} must have one width: give the student '
            'a projector of the width of the teacher'
        )
    dtype = _float(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        anchors = queue.detach().to(dtype)
        return _QueueDivergence.apply(
            F.normalize(student.to(dtype), dim=1),
            F.normalize(teacher.detach().to(dtype), dim=1),
            anchors,
            anchors,
            student_temperature,
            teacher_temperature,
            True,
            False,
        )


def compress(
    student: Tensor,
    teacher: Tensor,
    student_queue: Tensor,
    teacher_queue: Tensor,
    temperature: float = 0.04,
) -> Tensor:
    r"""KL divergence between similarity distributions (CompRess).

    .. math::
        L = \frac{1}{N} \sum_n \mathrm{KL}\big(
        \mathrm{softmax}(t_n M_T^T / \tau) \,\|\,
        \mathrm{softmax}(s_n M_S^T / \tau) \big)

    `CompRess: Self-Supervised Learning by Compressing Representations
    <https://arxiv.org/abs/2010.14713>`_, eq. 1 and 2. The images of the
    batch are not among the anchors. With two queues row j of both belongs
    to one image and widths may differ (2q); for 1q pass the teacher's queue
    twice. Memory as for :func:`similarity_distillation`.

    Args:
        student: ``(N, D_S)`` rows, normalised here.
        teacher: ``(N, D_T)`` rows, normalised here; no gradient.
        student_queue: ``(K, D_S)`` anchors as they are; no gradient.
        teacher_queue: ``(K, D_T)``, likewise.
        temperature: :math:`\tau` > 0, the same on both sides.

    Returns:
        Scalar >= 0, in at least float32.

    Raises:
        ValueError: for shapes that do not fit or a temperature that is not
            positive and finite.
    """
    check_temperature(temperature)
    _check(
        student,
        teacher,
        dict(
            student_queue=(student_queue, student),
            teacher_queue=(teacher_queue, teacher),
        ),
    )
    if len(student_queue) != len(teacher_queue):
        raise ValueError(
            f'student_queue of {len(student_queue)} and teacher_queue of '
            f'{len(teacher_queue)} rows: row j of both must be one image'
        )
    dtype = _float(student, teacher)
    anchors = teacher_queue.detach().to(dtype)
    own_anchors = anchors  # one tensor if it is one queue
    if student_queue is not teacher_queue:
        own_anchors = student_queue.detach().to(dtype)
    with torch.autocast(student.device.type, enabled=False):
        return _QueueDivergence.apply(
            F.normalize(student.to(dtype), dim=1),
            F.normalize(teacher.detach().to(dtype), dim=1),
            own_anchors,
            anchors,
            temperature,
            temperature,
            False,
            True,
        )


@MODELS.register_module()
class SimilarityDistillationLoss(nn.Module):
    """Module form of :func:`similarity_distillation`.

    Args:
        student_temperature, teacher_temperature: see there.
    """

    def __init__(
        self,
        student_temperature: float = 0.2,
        teacher_temperature: float = 0.01,
    ) -> None:
        super().__init__()
        check_temperature(student_temperature, 'student_temperature')
        check_temperature(teacher_temperature, 'teacher_temperature')
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature

    def forward(
        self, student: Tensor, teacher: Tensor, queue: Tensor
    ) -> Tensor:
        """Return the scalar loss."""
        return similarity_distillation(
            student,
            teacher,
            queue,
            self.student_temperature,
            self.teacher_temperature,
        )


@MODELS.register_module()
class CompressLoss(nn.Module):
    """Module form of :func:`compress`.

    Args:
        temperature: see there.
    """

    def __init__(self, temperature: float = 0.04) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        student_queue: Tensor,
        teacher_queue: Tensor,
    ) -> Tensor:
        """Return the scalar loss."""
        return compress(
            student, teacher, student_queue, teacher_queue, self.temperature
        )
