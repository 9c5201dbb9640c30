"""CRD: the estimator by hand and in expectation, its memories."""

import itertools
import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmpretrain.structures import DataSample

from mmssd.models.heads import ContrastiveRepresentationHead
from mmssd.models.losses import match_scores, noise_contrast
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, M, D, NOISE = 3, 5, 4, 2


def make_head(**kwargs):
    torch.manual_seed(0)
    kwargs = dict(
        num_images=M,
        student_dim=6,
        teacher_dim=7,
        embed_dim=D,
        num_noise=NOISE,
        **kwargs,
    )
    return ContrastiveRepresentationHead(**kwargs)


def make_step(indices=(3, 0, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(len(indices), width, generator=generator)
        for width in (6, 7)
    )
    return Step(
        student=Encodings(features=[student.requires_grad_()]),
        teacher=Encodings(features=[teacher.requires_grad_()]),
        data_samples=[
            DataSample(metainfo=dict(sample_idx=index)) for index in indices
        ],
    )


# --- formulas ---------------------------------------------------------------


def test_noise_contrast_by_hand():
    # P = 0.5, 0.25, 0.125 with Z = 2; m / M = 2 / 4
    scores = torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
    expected = -(
        math.log(0.5 / (0.5 + 0.5))
        + math.log(0.5 / (0.25 + 0.5))
        + math.log(0.5 / (0.125 + 0.5))
    )
    found = noise_contrast(scores, 2.0, population=4)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_mean_over_all_draws_is_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(M, D, generator=generator, dtype=torch.float64)
    row = F.normalize(
        torch.randn(1, D, generator=generator, dtype=torch.float64)
    )
    z, own = 7.0, 2
    p = [math.exp(float(row[0] @ memory[j]) / 0.5) / z for j in range(M)]
    odds = NOISE / M
    expected = -math.log(p[own] / (p[own] + odds)) - NOISE / M * sum(
        math.log(odds / (q + odds)) for q in p
    )
    draws = []
    for noise in itertools.product(range(M), repeat=NOISE):
        anchors = memory[[own, *noise]][None]
        scores = match_scores(row, anchors, temperature=0.5)
        draws.append(noise_contrast(scores, z, population=M).item())
    assert len(draws) == M**NOISE
    assert sum(draws) / len(draws) == pytest.approx(expected, rel=1e-12)


def test_gradient_in_float64():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(N, D, generator=generator, dtype=torch.float64)
    anchors = torch.randn(
        N, 1 + NOISE, D, generator=generator, dtype=torch.float64
    )

    def loss(x):
        scores = match_scores(F.normalize(x, dim=1), anchors, 0.3)
        return noise_contrast(scores, 4.0, population=M)

    assert torch.autograd.gradcheck(loss, rows.requires_grad_())


def test_bfloat16_rows_are_scored_in_float32():
    rows = F.normalize(torch.randn(N, D), dim=1)
    anchors = torch.randn(N, 1 + NOISE, D)
    with torch.autocast('cpu', torch.bfloat16):
        scores = match_scores(rows.bfloat16(), anchors)
    assert scores.dtype == torch.float32
    expected = match_scores(rows.bfloat16().float(), anchors)
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: match_scores(torch.ones(2, 3), torch.ones(2, 4, 2)), 'D'),
        (
            lambda: match_scores(torch.ones(1, 1), torch.ones(1, 1, 1), 0),
            'temperature',
        ),
        (lambda: noise_contrast(torch.ones(2, 1), 1, 1), 'noise pair'),
        (lambda: noise_contrast(torch.ones(2, 2), 1, 0), 'population=0'),
    ],
)
def test_errors_of_the_formulas(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- head -------------------------------------------------------------------


def slow_side(rows, memory, own, noise, temperature, population):
    """Z of this batch, and the loss, term by term in float64."""
    scores = [
        [
            math.exp(sum(a * b for a, b in zip(v, memory[j], strict=True)) / t)
            for j in (own[n], *noise[n])
        ]
        for n, v in enumerate(rows)
        for t in [temperature]
    ]
    flat = [s for line in scores for s in line]
    z = sum(flat) / len(flat) * population
    odds = NOISE / population
    total = 0.0
    for line in scores:
        p = [s / z for s in line]
        total -= math.log(p[0] / (p[0] + odds))
        total -= sum(math.log(odds / (q + odds)) for q in p[1:])
    return z, total / len(scores)


def test_first_step_against_a_slow_reference(monkeypatch):
    head, step, own = make_head(), make_step(), (3, 0, 1)
    noise = torch.tensor([[0, 4], [2, 2], [1, 3]])
    monkeypatch.setattr(torch, 'randint', lambda *args, **kwargs: noise)
    memories = [
        m.double().tolist() for m in (head.student_memory, head.teacher_memory)
    ]
    with torch.no_grad():
        v = F.normalize(head.student_projector(step.student.features[0]))
        u = F.normalize(head.teacher_projector(step.teacher.features[0]))
    z_student, l_student = slow_side(
        v.double().tolist(), memories[1], own, noise.tolist(), 0.07, M
    )
    z_teacher, l_teacher = slow_side(
        u.double().tolist(), memories[0], own, noise.tolist(), 0.07, M
    )
    terms = head.loss(step)
    assert list(terms) == ['loss_contrast']
    assert terms['loss_contrast'].item() == pytest.approx(
        l_student + l_teacher, rel=1e-5
    )
    assert head.constants.tolist() == pytest.approx(
        [z_student, z_teacher], rel=1e-5
    )

    # the rows of the batch moved half way and are of unit length
    for memory, before, rows in (
        (head.student_memory, memories[0], v),
        (head.teacher_memory, memories[1], u),
    ):
        old = torch.tensor(before)
        for n, index in enumerate(own):
            moved = 0.5 * old[index] + 0.5 * rows[n]
            torch.testing.assert_close(
                memory[index], moved / moved.norm(), rtol=1e-5, atol=1e-6
            )
        for index in set(range(M)) - set(own):
            torch.testing.assert_close(memory[index], old[index])

    # Z stays that of the first batch
    head.loss(make_step((2, 4, 0), seed=9))
    assert head.constants.tolist() == pytest.approx(
        [z_student, z_teacher], rel=1e-5
    )


def test_who_receives_gradient():
    head, step = make_head(), make_step()
    head.loss(step)['loss_contrast'].backward()
    assert step.student.features[0].grad.abs().sum() > 0
    assert step.teacher.features[0].grad is None
    for name in ('student_projector', 'teacher_projector'):
        assert getattr(head, name).weight.grad.abs().sum() > 0


def test_evaluation_changes_nothing_and_the_state_is_whole():
    head = make_head().eval()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.loss(make_step())
    assert all(torch.equal(v, before[k]) for k, v in head.state_dict().items())
    head.train().loss(make_step())
    other = make_head()
    other.load_state_dict(head.state_dict())
    torch.manual_seed(5)
    first = head.loss(make_step(seed=2))['loss_contrast']
    torch.manual_seed(5)
    again = other.loss(make_step(seed=2))['loss_contrast']
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_noise=0), 'num_noise=0'),
        (dict(momentum=1.0), 'momentum=1.0'),
        (dict(temperature=0), 'temperature'),
        (dict(weight=-1), 'weight=-1'),
        (dict(num_images=0), 'num_images=0'),
    ],
)
def test_bad_arguments(kwargs, message):
    options = dict(num_images=M, student_dim=6, teacher_dim=7)
    with pytest.raises(ValueError, match=message):
        ContrastiveRepresentationHead(**{**options, **kwargs})


def test_bad_steps():
    step = make_step()
    step.data_samples = None
    with pytest.raises(SetupError, match="'sample_idx'"):
        make_head().loss(step)
    with pytest.raises(SetupError, match='sample_idx=5: set it'):
        make_head().loss(make_step((3, 0, 5)))
    with pytest.raises(SetupError, match='student_dim=6.*width 2'):
        step = make_step()
        step.student.features = [torch.ones(N, 2)]
        make_head().loss(step)
    make_head().check(TrainingPlan(batch=2, max_iters=9, epoch_length=3))
    with pytest.raises(SetupError, match='num_images=5.*3 steps of 4 images'):
        make_head().check(TrainingPlan(batch=4, max_iters=9, epoch_length=3))


def remember(steps=2):
    """Take steps on this process' share of four images; return the state."""
    head = make_head().double()
    share = 4 // dist.get_world_size()
    rows = slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)
    losses = []
    for number in range(steps):
        generator = torch.Generator().manual_seed(number)
        noise = torch.randint(M, (4, NOISE), generator=generator)[rows]
        step = make_step((3, 0, 1, 4), seed=number)
        for network in (step.student, step.teacher):
            network.features = [network.features[0][rows].double()]
        step.data_samples = step.data_samples[rows]
        with mock.patch.object(torch, 'randint', lambda *a, n=noise, **k: n):
            losses.append(head.loss(step)['loss_contrast'].item())
    state = {k: v for k, v in head.state_dict().items() if 'proj' not in k}
    return state, losses


def test_two_processes_remember_as_one(two_processes):
    alone, losses = remember()
    (first, losses0), (second, losses1) = two_processes(remember)
    assert set(alone) == {'student_memory', 'teacher_memory', 'constants'}
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=1e-10, atol=1e-12)
        assert torch.equal(first[name], second[name])
    for a, b, whole in zip(losses0, losses1, losses, strict=True):
        assert (a + b) / 2 == pytest.approx(whole, rel=1e-10)
