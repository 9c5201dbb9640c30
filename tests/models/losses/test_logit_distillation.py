"""Softened class probabilities."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mmssd.models.losses.logit_distillation import (
    LogitDistillationLoss,
    logit_distillation,
)


def test_by_hand():
    """T = 2, teacher odds 3 : 1, student even: KL = log 2 - H(3/4)."""
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 2, dtype=torch.float64)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = logit_distillation(student, teacher)
    assert found.item() == pytest.approx(4 * divergence, rel=1e-12)
    published = logit_distillation(student, teacher, reduction='mean')
    assert published.item() == pytest.approx(4 * divergence / 2, rel=1e-12)


def test_mean_over_images():
    student, teacher = torch.randn(2, 5, 7, dtype=torch.float64)
    each = [
        logit_distillation(s[None], t[None], 3.0).item()
        for s, t in zip(student, teacher, strict=True)
    ]
    p = (teacher / 3).softmax(1)
    by_row = 9 * (p * (p / (student / 3).softmax(1)).log()).sum(1)
    assert each == pytest.approx(by_row.tolist(), rel=1e-9)
    module = LogitDistillationLoss(temperature=3.0)
    assert module(student, teacher).item() == pytest.approx(sum(each) / 5)


def test_gradient_stays_with_the_student():
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(
        lambda s: logit_distillation(s, teacher.detach()), [student]
    )
    logit_distillation(student, teacher).backward()
    assert teacher.grad is None
    # T^2 times (p_s - p_t) / T, over N
    expected = (student / 2).softmax(1) - (teacher / 2).softmax(1)
    torch.testing.assert_close(student.grad, 2 * expected.detach() / 3)


def test_half_precision_and_errors():
    student, teacher = torch.randn(2, 3, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = logit_distillation(student.bfloat16(), teacher)
    assert half.dtype == torch.float32
    with pytest.raises(ValueError, match=r'\(3, 4\).*\(3, 3\)'):
        logit_distillation(student, teacher[:, :3])
    with pytest.raises(ValueError, match="reduction='sum'"):
        logit_distillation(student, teacher, reduction='sum')
    with pytest.raises(ValueError, match='temperature=0'):
        LogitDistillationLoss(temperature=0)
