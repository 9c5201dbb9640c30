"""OFD against a slow reference in float64."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from scipy import stats
from torch import nn

from mmssd.models.heads import OverhaulHead
from mmssd.models.utils import Encodings, SetupError, Step, TrainingPlan

STUDENT, TEACHER = (3, 4), (5, 6)
SIZES = ((4, 3), (2, 2))
N = 3


class Network(nn.Module):
    """What ``prepare`` reads of a teacher."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def resnet(depth=18, width=4, **kwargs):
    return MODELS.build(
        dict(
            type='ResNet',
            depth=depth,
            stem_channels=width,
            base_channels=width,
            **kwargs,
        )
    )


def make_head(**kwargs):
    """A head with margins that were drawn."""
    head = OverhaulHead(STUDENT, TEACHER, **kwargs).double()
    for margin in head.margins:
        margin.copy_(-torch.rand(len(margin)))
    head._prepared = True
    return head


def make_step(grad=False):
    maps = [
        tuple(
            torch.randn(N, width, *size, dtype=torch.float64).requires_grad_(
                grad
            )
            for width, size in zip(widths, SIZES, strict=True)
        )
        for widths in (STUDENT, TEACHER)
    ]
    return Step(
        student=Encodings(pre_relu_maps=[maps[0]]),
        teacher=Encodings(pre_relu_maps=[maps[1]]),
    )


def reference(head, step, factors, distance='partial'):
    """Loops over numbers in numpy."""
    total = 0.0
    for stage, factor in enumerate(factors):
        s = step.student.pre_relu_maps[0][stage].detach().numpy()
        t = step.teacher.pre_relu_maps[0][stage].detach().numpy()
        conv, norm = head.connectors[stage]
        w = conv.weight.detach().numpy()[:, :, 0, 0]
        margin = head.margins[stage].numpy()
        mapped = np.einsum('oc,nchw->nohw', w, s)
        for c in range(mapped.shape[1]):
            rows = mapped[:, c]
            rows = (rows - rows.mean()) / math.sqrt(rows.var() + norm.eps)
            gamma, beta = norm.weight[c].item(), norm.bias[c].item()
            for x, f in zip(
                (gamma * rows + beta).ravel(), t[:, c].ravel(), strict=True
            ):
                if distance == 'l2':
                    total += factor * (x - f) ** 2
                elif f <= margin[c]:
                    if x > margin[c]:
                        total += factor * (x - margin[c]) ** 2
                elif f > 0 or x > f:
                    total += factor * (x - f) ** 2
    return total / N


@pytest.mark.parametrize('distance', ['partial', 'l2'])
def test_equals_the_slow_reference(distance):
    head = make_head(distance=distance)
    for connector in head.connectors:
        nn.init.uniform_(connector[1].weight, 0.5, 2)
        nn.init.uniform_(connector[1].bias, -1, 1)
    step = make_step()
    found = head.loss(step)['loss_overhaul'].item()
    expected = 1e-4 * reference(head, step, (0.5, 1), distance)
    assert found == pytest.approx(expected, rel=1e-12)


def test_weights_of_the_stages():
    step = make_step()
    head = make_head(weight=2.0, stage_weights=(3.0, 0.0))
    expected = 6 * reference(head, step, (1, 0))
    assert head.loss(step)['loss_overhaul'].item() == pytest.approx(expected)
    four = OverhaulHead((1, 2, 3, 4), (1, 2, 3, 4))
    assert four.stage_weights == (1 / 8, 1 / 4, 1 / 2, 1)


def test_reference_sizes_undo_the_growth_with_resolution():
    """A map of twice the side counts as the small one, not four times."""
    small = make_step()
    large = make_step()
    for network in ('student', 'teacher'):
        getattr(large, network).pre_relu_maps = [
            tuple(
                m.repeat_interleave(2, 2).repeat_interleave(2, 3)
                for m in getattr(small, network).pre_relu_maps[0]
            )
        ]
    plain, scaled = make_head(), make_head(reference_sizes=(4, 2))
    scaled.load_state_dict(plain.state_dict())
    value = {
        name: [head.loss(step)['loss_overhaul'].item() for step in steps]
        for name, head, steps in (
            ('plain', plain, (small, large)),
            ('scaled', scaled, (small, large)),
        )
    }
    assert value['plain'][1] == pytest.approx(4 * value['plain'][0])
    assert value['scaled'][1] == pytest.approx(value['scaled'][0])
    # 4 x 4 for the 4 x 3 map, 2 x 2 as it is
    expected = 1e-4 * reference(plain, small, (0.5 * 16 / 12, 1))
    assert value['scaled'][0] == pytest.approx(expected)


def test_gradients_reach_connectors_and_student_only():
    head, step = make_head(), make_step(grad=True)
    head.loss(step)['loss_overhaul'].backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
    for stage in step.student.pre_relu_maps[0]:
        assert stage.grad.abs().sum() > 0
    for stage in step.teacher.pre_relu_maps[0]:
        assert stage.grad is None
    assert not any(margin.requires_grad for margin in head.margins)


def test_connectors_start_as_published():
    torch.manual_seed(1)
    head = OverhaulHead((400,), (500,))
    conv, norm = head.connectors[0]
    assert conv.bias is None and conv.kernel_size == (1, 1)
    deviation = math.sqrt(2 / 500)
    assert conv.weight.std().item() == pytest.approx(deviation, rel=0.01)
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all()
    # also between equal widths
    assert len(list(OverhaulHead((4,), (4,)).parameters())) == 3


def test_margins_come_from_the_last_batch_norm_of_a_stage():
    backbone = resnet(width=2)
    teacher = Network(backbone)
    norm = backbone.layer3[-1].bn2
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-2, 2, 8))
        norm.bias.copy_(torch.linspace(-1, 1, 8))
        norm.weight[4] = 0.0
        norm.bias[4] = -0.25
    head = OverhaulHead((2, 4, 8, 16), (2, 4, 8, 16))
    head.prepare(teacher)
    expected = [
        stats.truncnorm(-np.inf, -m / abs(s), loc=m, scale=abs(s)).mean()
        if s
        else -0.25
        for s, m in zip(norm.weight.tolist(), norm.bias.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        head.margins[2], torch.tensor(expected).float(), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(RuntimeError, match='init_weights'):
        OverhaulHead((2,), (2,)).distill(make_step())


def test_waits_for_its_start_with_zero_gradients():
    head = make_head(start=2)
    values = []
    for _ in range(4):
        head.zero_grad()
        # not asked for, hence not computed, before the start
        step = make_step() if head.active else Step(student=Encodings())
        loss = head.loss(step)['loss_overhaul']
        loss.backward()
        assert all(p.grad is not None for p in head.parameters())
        values.append(loss.item())
        if len(values) <= 2:
            assert all(p.grad.eq(0).all() for p in head.parameters())
    assert values[:2] == [0, 0] and min(values[2:]) > 0
    other = make_head(start=2)
    other.load_state_dict(head.state_dict())
    assert other.active and int(other.iteration) == 4
    head.eval()
    head.loss(make_step())
    assert int(head.iteration) == 4


def test_start_in_epochs():
    head = make_head(start=dict(epochs=4))
    with pytest.raises(SetupError, match='HealthHook'):
        head.active  # noqa: B018
    plan = dict(batch=8, epoch_length=10)
    head.check(TrainingPlan(max_iters=100, **plan))
    assert head.start.iterations == 40
    with pytest.raises(SetupError, match='is iteration 40.*has 30'):
        head.check(TrainingPlan(max_iters=30, **plan))


def test_refuses_networks_that_do_not_fit():
    head = OverhaulHead((4, 8, 16, 32), (16, 32, 64, 128))
    head.check_networks(resnet(18), resnet(50))
    with pytest.raises(
        ValueError, match=r'teacher_channels=\(16, .*\(4, 8, 16, 32\)'
    ):
        head.check_networks(resnet(18), resnet(18))
    three = resnet(
        18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    )
    with pytest.raises(ValueError, match='student has 3 stages, the teacher'):
        head.check_networks(three, resnet(50))
    dilated = resnet(50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    with pytest.raises(
        ValueError,
        match=r'stage 4: of an image of 224 .*\(7, 7\).*\(14, 14\).*strides',
    ):
        head.check_networks(resnet(18), dilated)
    with pytest.raises(ValueError, match='VisionTransformer are not known'):
        head.check_networks(
            MODELS.build(dict(type='VisionTransformer', arch='deit-tiny')),
            resnet(50),
        )
    step = make_step()
    step.teacher.pre_relu_maps = [
        tuple(m[..., :1] for m in step.teacher.pre_relu_maps[0])
    ]
    with pytest.raises(SetupError, match=r'stage 1.*\(4, 3\).*\(4, 1\)'):
        make_head().loss(step)
    plain = Network(resnet(18))
    plain.backbone.layer2[-1].bn2 = nn.BatchNorm2d(8, affine=False)
    with pytest.raises(ValueError, match='layer2 of the teacher'):
        OverhaulHead((4, 8, 16, 32), (4, 8, 16, 32)).prepare(plain)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(student_channels=(1, 2, 3)), 'as many of both'),
        (dict(student_channels=(), teacher_channels=()), 'as many of both'),
        (dict(stage_weights=(1,)), r'stage_weights=\(1,\).*2 numbers'),
        (dict(reference_sizes=(7, 0)), r'reference_sizes=\(7, 0\)'),
        (dict(weight=-1), 'weight=-1'),
        (dict(distance='cosine'), "distance='cosine'"),
        (dict(start=-3), 'start=-3'),
    ],
)
def test_refuses_arguments(arguments, message):
    given = dict(student_channels=STUDENT, teacher_channels=TEACHER)
    with pytest.raises(ValueError, match=message):
        OverhaulHead(**{**given, **arguments})
