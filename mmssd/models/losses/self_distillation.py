"""Cross-entropy between the sharpened outputs of two networks (DINO)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .swapped_prediction import check_temperature, swapped_prediction


def self_distillation(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    r"""Predict the averaged network's output on other crops.

    .. math::
        L = \frac{1}{G (V - 1)} \sum_{i=1}^{G} \sum_{v \ne i} \frac{1}{N}
        \sum_n \Big[ - \sum_k q_{ink} \log
        \mathrm{softmax}(s_{vn} / \tau_s)_k \Big], \qquad
        q_{in} = \mathrm{softmax}((t_{in} - c) / \tau_t)

    `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, eq. 2 and 3: all crops of the
    student against the G global crops of its average, but for equal ones.

    Args:
        student: V logits ``(N, K)``, the first G of the global crops.
        teacher: G logits ``(N, K)`` of the same crops; no gradient.
        center: ``(K,)`` or ``(1, K)``, c.
        student_temperature: :math:`\tau_s` > 0.
        teacher_temperature: :math:`\tau_t` > 0.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: for a temperature or shapes out of range, or if there
            is no pair of different crops.
    """
    check_temperature(student_temperature, 'student_temperature')
    check_temperature(teacher_temperature, 'teacher_temperature')
    pairs = len(teacher) * (len(student) - 1)
    if pairs < 1 or len(student) < len(teacher):
        raise ValueError(
            f'{len(student)} crop(s) of the student and {len(teacher)} of '
            'the teacher: need at least two and one, global crops first'
        )
    dtype = torch.promote_types(teacher[0].dtype, torch.float32)
    with torch.autocast(teacher[0].device.type, enabled=False):
        targets = [
            ((t.detach().to(dtype) - center) / teacher_temperature).softmax(1)
            for t in teacher
        ]
        everything = torch.stack(targets).sum(0)
        # the loss is linear in the targets: their sum suffices for a crop
        total = sum(
            swapped_prediction(
                logits,
                everything - targets[v] if v < len(targets) else everything,
                student_temperature,
            )
            for v, logits in enumerate(student)
        )
    return total / pairs
