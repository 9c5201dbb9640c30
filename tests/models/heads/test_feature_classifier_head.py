"""The adversarial term against a slow reference of equation 7 of OSS."""

import math

import pytest
import torch
from mmpretrain.registry import MODELS

from mmssd.models.heads.feature_classifier_head import (
    FeatureClassifierHead,
    dann_ramp,
)
from mmssd.models.utils.step import Encodings, Step

N, D = 3, 5


def make_step(dtype=torch.float32, views=4, progress=None):
    def network():
        rows = [
            (3 * torch.randn(N, D, dtype=torch.float64)).to(dtype)
            for _ in range(views)
        ]
        dropout = [torch.randn(N, D).to(dtype) for _ in range(views)]
        return Encodings(
            embeddings=[r.requires_grad_() for r in rows],
            dropout_embeddings=[r.requires_grad_() for r in dropout],
        )

    return Step(network(), network(), num_global=2, progress=progress)


def make_head(dtype=torch.float32, **kwargs):
    kwargs = {'embed_dim': D, 'hid_channels': 6, **kwargs}
    return FeatureClassifierHead(**kwargs).to(dtype)


def slow_domain_loss(teacher, student, parameters):
    """Eq 7 without any reversal: the sum over n and i = 1, 2."""
    w0, b0, w1, b1 = parameters

    def log_probability(row, label):
        unit = row / row.square().sum().sqrt()
        hidden = [(unit * w).sum() + b for w, b in zip(w0, b0, strict=True)]
        hidden = [h if h > 0 else 0 * h for h in hidden]
        out = [
            sum(w * h for w, h in zip(row1, hidden, strict=True)) + b
            for row1, b in zip(w1, b1, strict=True)
        ]
        return out[label] - sum(o.exp() for o in out).log()

    total = 0.0
    for n in range(N):
        for i in (0, 1):
            total -= log_probability(teacher[i][n], 0)
            total -= log_probability(student[i][n], 1)
    return total


@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [
        (torch.float32, dict(rtol=2e-4, atol=1e-6)),
        (torch.float64, dict(rtol=1e-10, atol=1e-14)),
    ],
)
@pytest.mark.parametrize('alpha', [1.0, 0.3])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_equals_the_slow_reference(dtype, tolerance, alpha, reduction):
    head = make_head(dtype, alpha=alpha, reduction=reduction, weight=0.7)
    step = make_step(dtype)
    terms = head.loss(step)
    terms['loss_domain'].backward()

    teacher, student, parameters = (
        [t.detach().double().requires_grad_() for t in tensors]
        for tensors in (
            step.teacher.embeddings,
            step.student.embeddings,
            head.classifier.parameters(),
        )
    )
    total = slow_domain_loss(teacher, student, parameters)
    expected = 0.7 * total / (4 * N if reduction == 'mean' else N)
    expected.backward()

    loss = terms['loss_domain']
    assert loss.dtype == dtype and loss.shape == ()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    # D: the ordinary gradient
    for own, reference in zip(
        head.classifier.parameters(), parameters, strict=True
    ):
        torch.testing.assert_close(
            own.grad.double(), reference.grad, **tolerance
        )
    # both networks: the reversed one, on the global crops alone
    for network, reference in (
        (step.teacher, teacher),
        (step.student, student),
    ):
        for i in (0, 1):
            assert reference[i].grad.abs().sum() > 0
            torch.testing.assert_close(
                network.embeddings[i].grad.double(),
                -alpha * reference[i].grad,
                **tolerance,
            )
        for other in [*network.embeddings[2:], *network.dropout_embeddings]:
            assert other.grad is None


def test_value_by_hand():
    # D gives equal logits: ln 2 a row; the sum has 4 rows an image
    step = make_step()
    for reduction, expected in (
        ('mean', math.log(2)),
        ('sum', 4 * math.log(2)),
    ):
        head = make_head(reduction=reduction)
        for parameter in head.classifier[2].parameters():
            torch.nn.init.zeros_(parameter)
        loss = head.loss(step)['loss_domain']
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_accuracy_is_a_diagnostic():
    head, step = make_head(), make_step()
    # D looks at nothing and says "student"
    torch.nn.init.zeros_(head.classifier[2].weight)
    head.classifier[2].bias.data.copy_(torch.tensor([0.0, 1.0]))
    terms = head.loss(step)
    assert set(terms) == {'loss_domain', 'accuracy'}
    assert terms['accuracy'].item() == 0.5
    assert not terms['accuracy'].requires_grad


def test_a_step_trains_d_and_untrains_the_networks():
    head = make_head(torch.float64, alpha=1.0)
    step = make_step(torch.float64)
    loss = head.loss(step)['loss_domain']
    loss.backward()
    rate = 1e-3
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= rate * parameter.grad
        assert head.loss(step)['loss_domain'] < loss
        for parameter in head.parameters():  # back
            parameter += rate * parameter.grad
        for network in (step.teacher, step.student):
            for rows in network.embeddings[:2]:
                rows -= rate * rows.grad
    assert head.loss(step)['loss_domain'] > loss


def test_dann_ramp_by_hand():
    assert dann_ramp(0) == 0.0
    # 2 / (1 + e^-5) - 1 = 2 / 1.0067379 - 1
    assert dann_ramp(0.5) == pytest.approx(0.9866143, abs=1e-7)
    # 2 / (1 + e^-10) - 1 = 2 / 1.0000454 - 1
    assert dann_ramp(1) == pytest.approx(0.9999092, abs=1e-7)


@pytest.mark.parametrize(
    ('progress', 'alpha'), [(0.0, 0.0), (0.5, 0.9866143), (1.0, 0.9999092)]
)
def test_ramp_follows_the_progress(progress, alpha):
    head = make_head(alpha='dann')
    constant = make_head(alpha=1.0)
    constant.load_state_dict(head.state_dict())
    torch.manual_seed(1)
    step = make_step(progress=progress)
    torch.manual_seed(1)
    same = make_step()
    loss, full = head.loss(step), constant.loss(same)
    # the strength does not change the value
    assert torch.equal(loss['loss_domain'], full['loss_domain'])
    loss['loss_domain'].backward()
    full['loss_domain'].backward()
    torch.testing.assert_close(
        step.student.embeddings[0].grad,
        alpha * same.student.embeddings[0].grad,
        rtol=1e-6,
        atol=1e-9,
    )
    # nor what D learns
    for a, b in zip(head.parameters(), constant.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_ramp_outside_a_runner():
    head = make_head(alpha='dann')
    with pytest.raises(RuntimeError, match='inside a runner.*constant alpha'):
        head.loss(make_step(progress=None))


def test_a_constant_needs_no_runner():
    make_head(alpha=0.5).loss(make_step(progress=None))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_embeddings(dtype):
    head, step = make_head(), make_step(dtype)
    terms = head.loss(step)
    assert terms['loss_domain'].dtype == torch.float32
    terms['loss_domain'].backward()
    assert step.student.embeddings[0].grad.dtype == dtype


def test_needs():
    needs = make_head().needs
    assert needs.student == needs.teacher == {'embeddings'}
    assert needs.teacher_views == 'global'


def test_defaults():
    head = MODELS.build(dict(type='FeatureClassifierHead'))
    assert isinstance(head, FeatureClassifierHead)
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(128, 128), (128,), (2, 128), (2,)]
    assert head.alpha == 1.0 and head.weight == 1.0
    # batch statistics would tell the networks apart
    assert not list(head.buffers())


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(embed_dim=0), 'embed_dim=0, hid_channels=128: both'),
        (dict(hid_channels=0), 'hid_channels=0'),
        (dict(alpha=-1.0), "alpha=-1.0: must be a number >= 0 or 'dann'"),
        (dict(alpha='ramp'), "alpha='ramp'"),
        (dict(alpha=float('nan')), 'alpha=nan'),
        (dict(reduction='none'), "reduction='none': must be one of"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FeatureClassifierHead(**kwargs)
