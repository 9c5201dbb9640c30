"""DINO's loss against a slow reference."""

import math

import pytest
import torch

from mmssd.models.losses import self_distillation

N, K = 3, 5


def slow(student, teacher, center, tau_s, tau_t):
    """Crop by crop and row by row."""
    total, count = 0, 0
    for i, targets in enumerate(teacher):
        for v, logits in enumerate(student):
            if v == i:
                continue
            for n in range(len(logits)):
                q = ((targets[n] - center.flatten()) / tau_t).exp()
                q = q / q.sum()
                p = (logits[n] / tau_s).exp()
                p = p / p.sum()
                total = total - sum(
                    q[k] * p[k].log() for k in range(len(p))
                ) / len(logits)
            count += 1
    return total / count


def rows(count, grad=False):
    return [
        torch.randn(N, K, dtype=torch.float64).requires_grad_(grad)
        for _ in range(count)
    ]


def test_by_hand():
    # uniform targets after centring; softmax of (ln 3, 0) is (3/4, 1/4)
    student = [torch.zeros(1, 2), torch.tensor([[math.log(3) * 0.1, 0.0]])]
    teacher = [torch.tensor([[5.0, 2.0]])]
    loss = self_distillation(student, teacher, torch.tensor([3.0, 0.0]))
    expected = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('crops', [2, 5])
def test_is_the_slow_reference(crops):
    student, teacher = rows(crops, grad=True), rows(2, grad=True)
    center = torch.randn(1, K, dtype=torch.float64)
    loss = self_distillation(student, teacher, center, 0.4, 0.3)
    expected = slow(student, [t.detach() for t in teacher], center, 0.4, 0.3)
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(
        torch.autograd.grad(loss, student, retain_graph=True),
        torch.autograd.grad(expected, student),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    loss.backward()
    assert all(t.grad is None for t in teacher)


def test_gradient_is_that_of_the_value():
    teacher, center = rows(2), torch.randn(1, K, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *student: self_distillation(student, teacher, center),
        rows(3, grad=True),
    )


def test_float32_under_autocast():
    student = [x.bfloat16() for x in rows(3)]
    teacher = [x.bfloat16() for x in rows(2)]
    center = torch.zeros(1, K)
    with torch.autocast('cpu', torch.bfloat16):
        loss = self_distillation(student, teacher, center)
    exact = self_distillation(
        [x.double() for x in student],
        [x.double() for x in teacher],
        center.double(),
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_bad_input():
    center = torch.zeros(1, K)
    with pytest.raises(ValueError, match='1 crop.* at least two'):
        self_distillation(rows(1), rows(1), center)
    with pytest.raises(ValueError, match='2 crop.* and 3 of the teacher'):
        self_distillation(rows(2), rows(3), center)
    for name in ('student_temperature', 'teacher_temperature'):
        with pytest.raises(ValueError, match=f'{name}=0'):
            self_distillation(rows(2), rows(2), center, **{name: 0})
