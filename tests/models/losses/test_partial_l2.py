"""The partial distance of pre-ReLU maps."""

import pytest
import torch
from torch.autograd import gradcheck

from mmssd.models.losses.partial_l2 import (
    PartialL2Loss,
    feature_l2,
    partial_l2,
)


def one(teacher, student, margin=-1.0):
    """The loss of a single number."""
    t, s = (
        torch.full((1, 1, 1, 1), float(x), dtype=torch.float64)
        for x in (teacher, student)
    )
    return partial_l2(s, t, torch.tensor([margin])).item()


@pytest.mark.parametrize(
    'teacher, student, expected',
    [
        # below the margin the target is the margin
        (-2, 0, 1.0),
        (-2, -3, 0.0),
        (-2, -0.5, 0.25),
        # between margin and zero: only a response above the target counts
        (-0.5, 0, 0.25),
        (-0.5, -1, 0.0),
        # a positive target counts on both sides
        (0.5, -1, 2.25),
        (0.5, 2, 2.25),
        # T = 0 is not positive
        (0, -1, 0.0),
    ],
)
def test_three_regions(teacher, student, expected):
    assert one(teacher, student) == pytest.approx(expected)


def slow(student, teacher, margin):
    """Number by number, on the raw responses of the teacher."""
    total = 0.0
    for n in range(student.size(0)):
        for c in range(student.size(1)):
            m = margin[c].item()
            for s, f in zip(
                student[n, c].flatten().tolist(),
                teacher[n, c].flatten().tolist(),
                strict=True,
            ):
                if f <= m:
                    total += (s - m) ** 2 if s > m else 0
                elif f <= 0:
                    total += (s - f) ** 2 if s > f else 0
                else:
                    total += (s - f) ** 2
    return total / student.size(0)


def maps(n=3, dtype=torch.float64):
    student, teacher = torch.randn(2, n, 4, 2, 3, dtype=dtype)
    return student, teacher, -torch.rand(4, dtype=dtype)


def test_sum_over_elements_mean_over_images():
    student, teacher, margin = maps()
    expected = slow(student, teacher, margin)
    assert partial_l2(student, teacher, margin).item() == pytest.approx(
        expected, rel=1e-12
    )
    module = PartialL2Loss()
    single = module(student.float(), teacher.float(), margin.float())
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-5)
    twice = partial_l2(
        torch.cat([student] * 2), torch.cat([teacher] * 2), margin
    )
    assert twice.item() == pytest.approx(expected, rel=1e-12)
    wide = partial_l2(
        torch.cat([student] * 2, 3), torch.cat([teacher] * 2, 3), margin
    )
    assert wide.item() == pytest.approx(2 * expected, rel=1e-12)


def test_gradient():
    student, teacher, margin = maps()
    student.requires_grad_()
    teacher.requires_grad_()
    assert gradcheck(
        lambda s: partial_l2(s, teacher.detach(), margin), [student]
    )
    partial_l2(student, teacher, margin).backward()
    assert teacher.grad is None
    # 2 (S - T) / N where it counts
    target = torch.maximum(teacher.detach(), margin[:, None, None])
    counts = (student > target) | (target > 0)
    expected = torch.where(counts, 2 * (student - target) / 3, 0.0)
    torch.testing.assert_close(student.grad, expected.detach())


def test_plain_distance():
    """(1 + 4) / 1 and the mean over two images of 5 and 0."""
    teacher = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1)
    student = torch.zeros(1, 2, 1, 1, requires_grad=True)
    assert feature_l2(student, teacher).item() == 5
    both = torch.cat([teacher, torch.zeros_like(teacher)])
    assert feature_l2(torch.zeros_like(both), both).item() == 2.5
    feature_l2(student, teacher).backward()
    assert student.grad.flatten().tolist() == [-2.0, 4.0]


def test_half_precision_is_computed_in_float32():
    """8 * 300^2 would overflow in float16."""
    student = torch.full((1, 2, 2, 2), 300.0).half()
    teacher = torch.zeros(1, 2, 2, 2).half()
    assert partial_l2(student, teacher, -torch.ones(2)).item() == 720_000
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = partial_l2(student.float(), teacher.float(), -torch.ones(2))
    assert loss.item() == 720_000


def test_refuses_shapes():
    student, teacher, margin = maps()
    with pytest.raises(ValueError, match=r'\(3, 4, 2, 3\).*\(3, 4, 2, 2\)'):
        partial_l2(student, teacher[..., :2], margin)
    with pytest.raises(ValueError, match=r'margin \(3,\).*\(4,\)'):
        partial_l2(student, teacher, margin[:3])
    with pytest.raises(ValueError, match=r'must both be \(N, C, H, W\)'):
        feature_l2(student[0], teacher[0])
