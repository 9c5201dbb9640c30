"""MoCo-v2's head: whose rows meet, what enters the queue, and when."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmpretrain.models.backbones import ResNet
from mmpretrain.models.necks import MoCoV2Neck
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.heads.embedding_head import EmbeddingHead
from mmssd.models.heads.momentum_contrast_head import MomentumContrastHead
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, D, K = 3, 4, 8


def make_step(seed=0, dtype=torch.float64, whole=False):
    """Two crops; without ``whole`` only the rows that are asked for."""
    generator = torch.Generator().manual_seed(seed)
    s0, s1, k0, k1 = (
        torch.randn(N, D, generator=generator, dtype=dtype) for _ in range(4)
    )
    s0.requires_grad_()
    s1.requires_grad_()
    return Step(
        student=Encodings(embeddings=[s0, s1] if whole else [s0]),
        momentum=Encodings(embeddings=[k0, k1] if whole else [None, k1]),
        num_global=2,
    )


def unit(rows):
    return rows / rows.square().sum(dim=1, keepdim=True).sqrt()


def slow_loss(query, key, queue, temperature, margin):
    """InfoNCE row by row."""
    q, k = unit(query), unit(key)
    total = 0
    for n in range(len(q)):
        positive = ((q[n] * k[n]).sum() - margin) / temperature
        negatives = [(q[n] * row).sum() / temperature for row in queue]
        denominator = positive.exp() + sum(x.exp() for x in negatives)
        total = total - (positive.exp() / denominator).log()
    return total / len(q)


def test_defaults_are_those_of_moco_v2():
    head = MomentumContrastHead()
    assert head.queue.features.shape == (65536, 128)
    assert (head.temperature, head.margin, head.weight) == (0.2, 0.0, 1.0)
    needs = head.needs
    assert needs.student_views == (0,) and needs.momentum_views == (1,)
    assert needs.min_global == 2 and not needs.teacher


@pytest.mark.parametrize(('margin', 'weight'), [(0.0, 1.0), (0.4, 0.5)])
def test_loss_and_gradient_are_the_slow_reference(margin, weight):
    head = MomentumContrastHead(
        D, K, temperature=0.3, margin=margin, weight=weight
    ).double()
    queue = head.queue.features.clone()
    step = make_step()
    (s,), (_, k) = step.student.embeddings, step.momentum.embeddings
    k.requires_grad_()
    terms = head.loss(step)
    assert list(terms) == ['loss_contrast']
    expected = weight * slow_loss(s, k.detach(), queue, 0.3, margin)
    torch.testing.assert_close(terms['loss_contrast'], expected)
    got = torch.autograd.grad(
        terms['loss_contrast'], [s, k], None, True, allow_unused=True
    )
    torch.testing.assert_close(got[0], torch.autograd.grad(expected, s)[0])
    assert got[1] is None  # keys carry no gradient


def test_the_queue_is_read_before_the_keys_enter():
    head = MomentumContrastHead(D, K).double()
    seen = []
    for seed in range(3):
        before = head.queue.features.clone()
        step = make_step(seed)
        (s,), (_, k) = step.student.embeddings, step.momentum.embeddings
        torch.testing.assert_close(
            head.loss(step)['loss_contrast'], slow_loss(s, k, before, 0.2, 0)
        )
        seen.append(unit(k))
    rows = torch.cat(seen)  # 9 rows into a queue of 8: momentum keys only
    torch.testing.assert_close(
        head.queue.features, torch.cat([rows[8:], rows[1:8]])
    )
    assert int(head.queue.pointer) == 1


def test_evaluation_leaves_the_queue_alone():
    head = MomentumContrastHead(D, K).double().eval()
    before = head.queue.features.clone()
    head.loss(make_step())
    assert torch.equal(head.queue.features, before)


def test_both_directions():
    head = MomentumContrastHead(D, K, symmetric=True, margin=0.1).double()
    assert head.needs.student_views == head.needs.momentum_views == (0, 1)
    queue = head.queue.features.clone()
    step = make_step(whole=True)
    (s0, s1), (k0, k1) = step.student.embeddings, step.momentum.embeddings
    expected = (
        slow_loss(s0, k1, queue, 0.2, 0.1) + slow_loss(s1, k0, queue, 0.2, 0.1)
    ) / 2
    torch.testing.assert_close(head.loss(step)['loss_contrast'], expected)
    entered = torch.cat([unit(k1), unit(k0)])
    torch.testing.assert_close(head.queue.features[: 2 * N], entered)
    assert int(head.queue.pointer) == 2 * N


@pytest.mark.parametrize('symmetric', [False, True])
def test_within_the_batch(symmetric):
    head = MomentumContrastHead(
        D, in_batch=True, margin=0.4, symmetric=symmetric
    )
    assert head.queue is None and not head.needs.momentum
    step = make_step(whole=True)
    step.momentum = None
    a, b = step.student.embeddings
    loss = head.loss(step)['loss_contrast']

    def direction(query, key):
        total = 0
        for n in range(N):
            others = torch.cat([unit(key)[:n], unit(key)[n + 1 :]])
            total = total + slow_loss(
                query[n : n + 1], key[n : n + 1], others, 0.2, 0.4
            )
        return total / N

    expected = direction(a, b)
    if symmetric:
        expected = (expected + direction(b, a)) / 2
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(
        torch.autograd.grad(loss, [a, b]),
        torch.autograd.grad(expected, [a, b]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
        assert got.abs().sum() > 0


def test_the_queue_is_in_the_checkpoint():
    head, other = (MomentumContrastHead(D, K).double() for _ in range(2))
    head.loss(make_step())
    other.load_state_dict(head.state_dict())
    step = make_step(5)
    assert head.loss(step) == other.loss(step)
    assert torch.equal(head.queue.features, other.queue.features)


# --- bad input --------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(temperature=0.0), 'temperature=0.0'),
        (dict(margin=-0.1), 'margin=-0.1'),
        (dict(margin=2.0), 'margin=2.0'),
        (dict(weight=-1.0), 'weight=-1.0'),
        (dict(queue_length=0), '0 rows'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as info:
        MODELS.build(
            dict(
                type='mmpretrain.MomentumContrastHead',
                embed_dim=D,
                **{'queue_length': K, **arguments},
            )
        )
    assert message in str(info.value)


def test_a_queue_must_hold_the_keys_of_a_step():
    plan = TrainingPlan(batch=5, max_iters=9, epoch_length=3)
    MomentumContrastHead(D, 5).check(plan)
    MomentumContrastHead(D, 2, in_batch=True).check(plan)
    with pytest.raises(SetupError, match='queue_length=4 .* the 5 keys'):
        MomentumContrastHead(D, 4).check(plan)
    with pytest.raises(SetupError, match='queue_length=9 .* the 10 keys'):
        MomentumContrastHead(D, 9, symmetric=True).check(plan)
    twice = replace(plan, accumulation=2)
    with pytest.raises(SetupError, match='queue_length=9 .* the 10 keys'):
        MomentumContrastHead(D, 9).check(twice)
    with pytest.raises(SetupError, match='queue_length=2 .* the 3 keys'):
        MomentumContrastHead(D, 2).loss(make_step())


def test_a_queue_longer_than_the_data_is_worth_a_warning(capsys):
    plan = TrainingPlan(batch=5, max_iters=9, epoch_length=3)
    MomentumContrastHead(D, 15).check(plan)
    assert 'queue_length' not in capsys.readouterr().out
    MomentumContrastHead(D, 16).check(plan)
    said = capsys.readouterr().out
    assert 'queue_length=16' in said and '15 images of an epoch' in said


def test_another_width():
    with pytest.raises(SetupError, match='embed_dim=5 .* have width 4'):
        MomentumContrastHead(5, K).loss(make_step())


# --- in a distiller ---------------------------------------------------------


class Backbone(BaseModule):
    def __init__(self, norm=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.batches = []

    def forward(self, x):
        self.batches.append(x)
        return (self.norm(self.stem(x)).relu(),)


def make_model(norm=True, head=None, **kwargs):
    torch.manual_seed(7)
    head = {'embed_dim': D, 'queue_length': K, **(head or {})}
    momentum = None if head.get('in_batch') else dict(decay=0.75)
    return Distiller(
        Backbone(norm),
        MODELS.build(
            dict(
                type='mmpretrain.MoCoV2Neck',
                in_channels=5,
                hid_channels=6,
                out_channels=D,
            )
        ),
        dict(contrast=dict(type='mmpretrain.MomentumContrastHead', **head)),
        momentum=momentum,
        **kwargs,
    )


def make_views(rows=4, seed=0, count=2):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, 3, 8, 8, generator=generator) for _ in range(count)
    ]


def test_each_network_sees_its_crop():
    model = make_model()
    views = make_views()
    model.loss(views)
    assert len(model.backbone.batches) == 1
    assert torch.equal(model.backbone.batches[0], views[0])
    assert torch.equal(model.momentum.backbone.batches[0], views[1])
    # statistics of its own, of its own crop
    own, student = model.momentum.backbone.norm, model.backbone.norm
    expected = 0.1 * model.momentum.backbone.stem(views[1]).mean((0, 2, 3))
    torch.testing.assert_close(own.running_mean, expected)
    assert not torch.equal(own.running_mean, student.running_mean)
    assert own.num_batches_tracked == student.num_batches_tracked == 1


def test_both_crops_in_batches_of_their_own():
    views = make_views()
    for separate, sizes in ((False, [8]), (True, [4, 4])):
        model = make_model(head=dict(symmetric=True), separate_views=separate)
        model.loss(views)
        for network in (model, model.momentum):
            assert [len(x) for x in network.backbone.batches] == sizes
        model.eval()
        model.loss(views)  # rows do not depend on each other then
        assert len(model.backbone.batches[-1]) == 8


def test_update_then_key_then_queue():
    model = make_model()
    with torch.no_grad():
        for p in model.momentum.parameters():
            p.mul_(0.5)
    expected = {
        name: 0.75 * p + 0.25 * model.get_parameter(name)
        for name, p in model.momentum.named_parameters()
    }
    views = make_views()
    model.loss(views)
    for name, p in model.momentum.named_parameters():
        torch.testing.assert_close(p, expected[name])
    keys = model.momentum.neck(model.momentum.backbone(views[1]))[0]
    torch.testing.assert_close(
        model.heads['contrast'].queue.features[:4], F.normalize(keys, dim=1)
    )


def test_a_teachers_file_leaves_the_queue_alone(tmp_path):
    source = make_model()
    state = source.state_dict()
    queue = torch.full((K, D), 9.0)
    state['heads.contrast.queue.features'] = queue
    state['queue'] = queue.t()  # as in files of MoCo
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=state), path)
    model = make_model(
        teacher=dict(
            type='mmpretrain.Teacher',
            backbone=Backbone(),
            neck=make_model().neck,
            checkpoint=str(path),
        )
    )
    before = model.heads['contrast'].queue.features.clone()
    model.init_weights()
    assert torch.equal(
        model.teacher.backbone.stem.weight, source.backbone.stem.weight
    )
    assert torch.equal(model.heads['contrast'].queue.features, before)
    assert int(model.heads['contrast'].queue.pointer) == 0


def test_one_global_crop_is_too_few():
    model = make_model()
    with pytest.raises(SetupError, match=r"\['contrast'\] need 2 global"):
        model.loss(make_views(count=1))
    with pytest.raises(ValueError, match='needs a momentum student'):
        Distiller(
            Backbone(),
            make_model().neck,
            dict(contrast=MomentumContrastHead(D, K)),
        )


def test_a_step_never_waits_for_the_device(host_waits):
    model = make_model()
    for iteration in range(3):
        with host_waits() as watch:
            model.loss(make_views(seed=iteration))
        assert not watch.found


# --- processes --------------------------------------------------------------


def take_steps(head, norm, iterations=4):
    """Run alone or on a worker: the state after a few steps.

    Batch norm normalises by fixed statistics: those of a share of the batch
    would not be those of the whole.
    """
    model = make_model(norm, head).double()
    rank, world = dist.get_rank(), dist.get_world_size()
    wrapper = model
    if world > 1:
        wrapper = MMDistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.2, 0.9
    )
    logs = []
    for iteration in range(iterations):
        model.train()
        for network in (model, model.momentum):
            if norm and network is not None:
                network.backbone.norm.eval()
        views = [
            view.double().tensor_split(world)[rank]
            for view in make_views(seed=iteration)
        ]
        loss = wrapper(views, mode='loss')['contrast.loss_contrast']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        logs.append(loss.item())
    return model.state_dict(), logs


@pytest.mark.dist
@pytest.mark.parametrize(
    ('head', 'norm'),
    [
        (dict(), True),
        (dict(margin=0.4, symmetric=True), True),
        (dict(in_batch=True, margin=0.4), False),
        (dict(in_batch=True, symmetric=True), True),
    ],
)
def test_two_processes_train_as_one(two_processes, head, norm):
    alone, logs = take_steps(head, norm)
    untrained, _ = take_steps(head, norm, 0)
    (first, logs0), (second, logs1) = two_processes(take_steps, head, norm)
    symmetric = head.get('symmetric')
    for name, value in alone.items():
        if name.endswith('queue.features') and symmetric:
            # rank order: keys of both crops of one process, then the other's
            order = torch.tensor([0, 1, 4, 5, 2, 3, 6, 7])
            value = value[order]
        torch.testing.assert_close(
            first[name], value, rtol=1e-10, atol=1e-12, msg=name
        )
        assert torch.equal(first[name], second[name]), name
    assert not torch.equal(
        alone['backbone.stem.weight'], untrained['backbone.stem.weight']
    )
    for a, b, whole in zip(logs0, logs1, logs, strict=True):
        assert (a + b) / 2 == pytest.approx(whole, rel=1e-10)


# --- DisCo ------------------------------------------------------------------


@pytest.mark.parametrize('imitate', [False, True])
def test_disco_is_its_formula(imitate):
    """Loss and gradient of a step, written out crop by crop."""
    torch.manual_seed(5)
    teacher = Teacher(
        Backbone(),
        make_model().neck,
        checkpoint='given',
        imitate_train_mode=imitate,
    )
    model = make_model(teacher=teacher, separate_views=True)
    model.heads['embedding'] = EmbeddingHead(weight=32.0)
    model.needs = model._check_needs()
    with torch.no_grad():
        for network in (model.momentum, teacher):
            for p in network.parameters():
                p.add_(0.1 * torch.randn_like(p))
    model.double().train()
    student, key = copy.deepcopy((model, model.momentum))
    frozen = copy.deepcopy(teacher)
    views = [view.double() for view in make_views()]

    terms = model.loss(views)
    total = model.parse_losses(terms)[0]
    total.backward()

    def embed(network, view):
        (maps,) = network.backbone(view)
        return unit(network.neck((maps,))[0])

    with torch.no_grad():
        for own, other in zip(
            [*key.backbone.parameters(), *key.neck.parameters()],
            [*student.backbone.parameters(), *student.neck.parameters()],
            strict=True,
        ):
            own.mul_(0.75).add_(0.25 * other)
        k2 = embed(key, views[1])
        targets = [embed(frozen, view) for view in views]
    s1, s2 = (embed(student, view) for view in views)
    contrast = slow_loss(
        s1, k2, student.heads['contrast'].queue.features, 0.2, 0
    )
    distance = sum(
        (s - t).square().sum(1).mean()
        for s, t in zip((s1, s2), targets, strict=True)
    )
    expected = contrast + 32 * distance
    torch.testing.assert_close(total, expected)
    expected.backward()
    for (name, p), q in zip(
        model.named_parameters(), student.parameters(), strict=True
    ):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, msg=name)
    assert frozen.training == imitate


def test_loading_a_teacher_leaves_the_momentum_student_alone(tmp_path):
    """Neither its statistics nor the queue come from the teacher's file."""

    def resnet():
        return ResNet(18, stem_channels=4, base_channels=4)

    def neck():
        return MoCoV2Neck(32, 6, D)

    source = {k: v + 5 for k, v in resnet().state_dict().items()}
    projector = {f'fc.{k}': v for k, v in neck().mlp.state_dict().items()}
    state = {
        f'module.{encoder}.{key}': value
        for encoder in ('encoder_q', 'encoder_k')
        for key, value in {**source, **projector}.items()
    }
    state['module.queue'] = torch.full((D, 8), 5.0)
    state['module.queue_ptr'] = torch.full((1,), 3)
    torch.save(dict(state_dict=state), tmp_path / 'moco.pth')
    model = Distiller(
        backbone=resnet(),
        neck=neck(),
        teacher=dict(
            backbone=resnet(),
            neck=neck(),
            checkpoint=str(tmp_path / 'moco.pth'),
            layout='moco',
        ),
        momentum=dict(decay=0.99),
        heads=dict(
            contrast=dict(
                type='MomentumContrastHead', embed_dim=D, queue_length=8
            ),
            embedding=dict(type='EmbeddingHead'),
        ),
    )
    model.init_weights()
    loaded = model.teacher.backbone.bn1.running_mean
    assert (loaded == 5).all()
    buffers = dict(model.momentum.named_buffers())
    assert any(name.endswith('running_mean') for name in buffers)
    for name, value in buffers.items():
        fresh = 1.0 if name.endswith('running_var') else 0.0
        assert (value == fresh).all(), name  # as at birth
    queue = model.heads['contrast'].queue
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(8))
    assert int(queue.pointer) == 0

    model.train()
    model.loss([torch.randn(4, 3, 32, 32) for _ in range(2)])
    own = model.momentum.backbone.bn1.running_mean.clone()
    keys = queue.features.clone()
    assert own.any() and not torch.equal(own, model.backbone.bn1.running_mean)
    model.teacher.load()
    assert torch.equal(model.momentum.backbone.bn1.running_mean, own)
    assert torch.equal(queue.features, keys) and int(queue.pointer) == 4
