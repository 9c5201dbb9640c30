import pytest
import torch
from torch import nn

from mmssd.models.distillers.momentum import MomentumStudent


class Student(nn.Module):
    def __init__(self, neck=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.neck = nn.Linear(4, 2) if neck else None


def fill(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_starts_as_a_copy_without_gradient():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    assert momentum.decay == 0.999
    for own, other in zip(
        momentum.state_dict().values(),
        student.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
    assert not any(p.requires_grad for p in momentum.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_update_by_hand():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.75)
    fill(momentum, 1.0)
    fill(student, 3.0)
    momentum.update(student)  # 0.75 * 1 + 0.25 * 3 = 1.5
    for parameter in momentum.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1.5))
    momentum.update(student)  # 0.75 * 1.5 + 0.25 * 3 = 1.875
    for parameter in momentum.parameters():
        torch.testing.assert_close(
            parameter, torch.full_like(parameter, 1.875)
        )
    assert all((p == 3).all() for p in student.parameters())


def test_small_steps_are_not_lost():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.999)
    fill(momentum, 0.0)
    fill(student, 1.0)
    for _ in range(1000):
        momentum.update(student)
    expected = 1 - 0.999**1000
    for parameter in momentum.parameters():
        torch.testing.assert_close(
            parameter, torch.full_like(parameter, expected), rtol=1e-4, atol=0
        )


def test_decay_of_zero_copies_the_parameters():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0)
    fill(student, 2.5)
    momentum.update(student)
    assert all((p == 2.5).all() for p in momentum.parameters())


def test_statistics_are_its_own():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.5)
    student.backbone(torch.randn(8, 3) + 5)
    before = momentum.backbone[1].running_mean.clone()
    momentum.update(student)
    assert torch.equal(momentum.backbone[1].running_mean, before)
    assert momentum.backbone[1].num_batches_tracked == 0
    momentum.backbone(torch.randn(8, 3) - 5)
    assert not torch.equal(momentum.backbone[1].running_mean, before)


def test_copy_from_takes_the_buffers_too():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    student.backbone(torch.randn(8, 3) + 5)
    fill(student, 0.25)
    momentum.copy_from(student)
    for own, other in zip(
        momentum.state_dict().values(),
        student.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(own, other)
    assert not any(p.requires_grad for p in momentum.parameters())


def test_without_a_neck():
    student = Student(neck=False)
    momentum = MomentumStudent(student.backbone, decay=0.5)
    assert momentum.neck is None
    fill(momentum, 0.0)
    fill(student, 1.0)
    momentum.update(student)
    assert all((p == 0.5).all() for p in momentum.parameters())


def test_init_weights_leaves_it_alone():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    fill(momentum, 7.0)
    momentum.init_weights()
    assert all((p == 7).all() for p in momentum.parameters())


@pytest.mark.parametrize('decay', [-0.1, 1.0, float('nan')])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f'decay={decay} .* in \\[0, 1\\)'):
        MomentumStudent(nn.Linear(1, 1), decay=decay)
