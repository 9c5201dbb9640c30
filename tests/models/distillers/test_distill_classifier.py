"""Labels and a frozen teacher."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier, LinearClsHead
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import Dataset

from mmssd.models.distillers.distill_classifier import (
    DistillClassifier,
    count_classes,
)
from mmssd.models.utils import (
    Encodings,
    SetupError,
    Step,
    TrainingPlan,
    batchnorm_margin,
    collect_pre_relu,
)
from mmssd.models.utils.checkpoint import load_checkpoint

N, CLASSES, W = 4, 5, 4
CHANNELS = (W, 2 * W, 4 * W, 8 * W)
WIDE = tuple(4 * c for c in CHANNELS)
NECK = dict(type='GlobalAveragePooling')
KD = dict(kd=dict(type='LogitHead'))


def backbone(depth=18, **kwargs):
    return dict(
        type='ResNet',
        depth=depth,
        stem_channels=W,
        base_channels=W,
        zero_init_residual=False,
        **kwargs,
    )


def head(width=CHANNELS[-1], classes=CLASSES):
    return dict(type='LinearClsHead', num_classes=classes, in_channels=width)


def ofd(**kwargs):
    arguments = dict(
        type='OverhaulHead', student_channels=CHANNELS, teacher_channels=WIDE
    )
    return dict(ofd={**arguments, **kwargs})


@pytest.fixture(scope='module')
def teacher_file(tmp_path_factory):
    """What a classifier of mmpretrain leaves, with margins of its own."""
    torch.manual_seed(3)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone(50),
            neck=NECK,
            head=head(WIDE[-1]),
        )
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def build(teacher_file):
    def build(heads, init=True, **kwargs):
        torch.manual_seed(0)
        teacher = dict(
            backbone=backbone(50),
            neck=NECK,
            head=head(WIDE[-1]),
            checkpoint=teacher_file,
        )
        arguments = dict(
            type='DistillClassifier',
            backbone=backbone(),
            neck=NECK,
            head=head(),
            teacher=teacher,
            distill_heads=heads,
        )
        model = MODELS.build({**arguments, **kwargs})
        if init:
            model.init_weights()
        return model

    return build


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    samples = [DataSample().set_gt_label(i % CLASSES) for i in range(N)]
    return torch.randn(N, 3, 32, 32, generator=generator), samples


def by_hand(model, images, labels):
    """Cross-entropy, maps of the student, maps and logits of the teacher."""
    with collect_pre_relu(model.backbone) as student:
        features = model.backbone(images)[-1].mean((2, 3))
    logits = model.head.fc(features)
    teacher = model.teacher
    with torch.no_grad(), collect_pre_relu(teacher.backbone) as maps:
        features = teacher.backbone(images)[-1].mean((2, 3))
    scores = teacher.head.fc(features)
    return F.cross_entropy(logits, labels), logits, student, maps, scores


def test_terms_of_visual_priors(build):
    model = build(ofd()).train()
    images, samples = batch()
    labels = torch.arange(N) % CLASSES
    twin = copy.deepcopy(model)
    losses = model(images, samples, mode='loss')
    assert set(losses) == {'loss_labels', 'ofd.loss_overhaul'}

    entropy, _, student, teacher, _ = by_hand(twin, images, labels)
    torch.testing.assert_close(losses['loss_labels'], entropy)
    total = 0.0
    for stage in range(4):
        norm = getattr(twin.teacher.backbone, f'layer{stage + 1}')[-1].bn3
        margin = batchnorm_margin(norm.weight, norm.bias)[:, None, None]
        target = torch.maximum(teacher[stage], margin)
        mapped = twin.distill_heads['ofd'].connectors[stage](student[stage])
        counts = (mapped > target) | (target > 0)
        squares = (mapped - target).square()[counts].sum()
        total += 2.0 ** (stage - 3) * squares / N
    torch.testing.assert_close(losses['ofd.loss_overhaul'], 1e-4 * total)
    loss, logs = model.parse_losses(losses)
    assert loss.item() == pytest.approx((entropy + 1e-4 * total).item())
    assert logs['loss'] == loss
    # running statistics as after one pass
    for own, other in zip(
        model.backbone.buffers(), twin.backbone.buffers(), strict=True
    ):
        assert torch.equal(own, other)


def test_a_step_trains_student_and_connectors_never_the_teacher(build):
    model = build(ofd(weight=1.0))
    teacher = copy.deepcopy(model.teacher)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    images, samples = batch()
    model.train()
    sum(model.loss(images, samples).values()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith('teacher.'):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert parameter.grad.abs().sum() > 0, name
    for _ in range(3):
        model.train()
        assert not any(m.training for m in model.teacher.modules())
        model.train_step(dict(inputs=images, data_samples=samples), optimizer)
    for name, parameter in model.named_parameters():
        same = torch.equal(before[name], parameter)
        assert same == name.startswith('teacher.'), name
    for own, other in zip(
        model.teacher.buffers(), teacher.buffers(), strict=True
    ):
        assert torch.equal(own, other)


def test_a_teacher_left_in_training_mode(build, teacher_file):
    """As published: statistics of the batch; its parameters stay."""
    teacher = dict(
        backbone=backbone(50),
        checkpoint=teacher_file,
        imitate_train_mode=True,
    )
    model = build(ofd(weight=1.0), teacher=teacher).train()
    images, samples = batch()
    norm = model.teacher.backbone.bn1
    before = norm.running_mean.clone()
    values = norm(model.teacher.backbone.conv1(images))
    mean = values.mean((0, 2, 3))
    torch.testing.assert_close(mean, norm.bias.detach(), rtol=0, atol=1e-5)
    parameters = [p.clone() for p in model.teacher.parameters()]
    sum(model.loss(images, samples).values()).backward()
    assert not torch.equal(norm.running_mean, before)
    for own, first in zip(model.teacher.parameters(), parameters, strict=True):
        assert own.grad is None and torch.equal(own, first)
    model.eval()
    assert not any(m.training for m in model.teacher.modules())


def test_before_the_start_the_teacher_does_not_run(build, monkeypatch):
    model = build({**ofd(start=2), 'kd': dict(type='LogitHead', start=1)})
    model.train()
    plain = ImageClassifier(
        copy.deepcopy(model.backbone), model.neck, copy.deepcopy(model.head)
    )
    images, samples = batch()
    runs = []
    forward = model.teacher.backbone.forward
    monkeypatch.setattr(
        model.teacher.backbone,
        'forward',
        lambda x: runs.append(len(x)) or forward(x),
    )
    losses = model.loss(images, samples)
    assert not runs
    assert losses['ofd.loss_overhaul'] == 0 and losses['kd.loss_logits'] == 0
    expected = plain.loss(images, samples)['loss']
    assert torch.equal(losses['loss_labels'], expected)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.distill_heads.parameters())
    # the second step has KD, the third both
    second = model.loss(images, samples)
    assert runs == [N] and second['ofd.loss_overhaul'] == 0
    assert second['kd.loss_logits'] > 0
    third = model.loss(images, samples)
    assert third['ofd.loss_overhaul'] > 0 and runs == [N, N]


@pytest.mark.parametrize('reduction', ['batchmean', 'mean'])
def test_kd_weighs_teacher_and_labels(build, reduction):
    heads = dict(kd=dict(type='LogitHead', alpha=0.3, reduction=reduction))
    model = build(heads, head={**head(), 'cal_acc': True}).train()
    images, samples = batch()
    twin = copy.deepcopy(model)
    losses = model.loss(images, samples)
    assert set(losses) == {
        'loss_labels',
        'accuracy_top-1',
        'kd.loss_logits',
    }
    labels = torch.arange(N) % CLASSES
    entropy, logits, _, _, scores = by_hand(twin, images, labels)
    torch.testing.assert_close(losses['loss_labels'], 0.7 * entropy)
    p, q = (scores / 2).softmax(1), (logits / 2).softmax(1)
    divergence = 4 * (p * (p / q).log()).sum() / N
    if reduction == 'mean':
        divergence = divergence / CLASSES
    torch.testing.assert_close(losses['kd.loss_logits'], 0.3 * divergence)


def test_logits_are_those_of_the_labels(build):
    """A head with dropout draws it once."""

    class Noisy(LinearClsHead):
        def forward(self, feats):
            self.drawn = F.dropout(super().forward(feats), 0.5)
            return self.drawn

    torch.manual_seed(1)
    model = build(KD, head=Noisy(CLASSES, CHANNELS[-1])).train()
    seen = []
    kd = model.distill_heads['kd']
    original = kd.distill
    kd.distill = lambda step: seen.append(step.student) or original(step)
    images, samples = batch()
    model.loss(images, samples)
    assert seen[0].logits[0] is model.head.drawn
    assert not seen[0].pre_relu_maps and not seen[0].features


def test_frozen_backbone(build):
    model = build(KD, freeze_backbone=True)
    frozen = copy.deepcopy(model.backbone.state_dict())
    fc = model.head.fc.weight.detach().clone()
    optimizer = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    )
    images, samples = batch()
    model.train()
    assert model.head.training
    assert not any(m.training for m in model.backbone.modules())
    model.train_step(dict(inputs=images, data_samples=samples), optimizer)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, frozen[key]), key
    assert not torch.equal(model.head.fc.weight, fc)


def test_is_an_image_classifier(build, teacher_file):
    model = build(ofd()).eval()
    images, samples = batch()
    plain = ImageClassifier(model.backbone, model.neck, model.head).eval()
    own, other = (m(images, mode='predict') for m in (model, plain))
    for a, b in zip(own, other, strict=True):
        assert torch.equal(a.pred_score, b.pred_score)
    keys = set(model.state_dict())
    assert set(plain.state_dict()) <= keys
    rest = {k for k in keys - set(plain.state_dict())}
    assert {k for k in rest if k.startswith('teacher.')} == {
        'teacher.checkpoint_sha256',
        'teacher.checkpoint_path',
    }
    connectors = 'distill_heads.ofd.connectors'
    assert f'{connectors}.3.0.weight' in rest
    assert f'{connectors}.3.1.running_var' in rest
    assert 'distill_heads.ofd.margin_3' in rest
    # the teacher of the file, with its classifier
    weights = load_checkpoint(teacher_file)['state_dict']
    assert torch.equal(model.teacher.head.fc.weight, weights['head.fc.weight'])


# --- in a runner ------------------------------------------------------------


class Images(Dataset):
    """Two batches, the same in every epoch."""

    def __len__(self):
        return 2 * N

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return dict(
            inputs=torch.rand(3, 32, 32, generator=generator),
            data_samples=DataSample().set_gt_label(index % CLASSES),
        )


def run(model, folder, epochs, resume=False):
    seen = []
    kd = model.distill_heads['ofd']
    original = kd.loss

    def loss(step):
        terms = original(step)
        seen.append(terms['loss_overhaul'].item())
        return terms

    kd.loss = loss
    Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=N,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            optimizer=dict(
                type='SGD',
                lr=0.05,
                momentum=0.9,
                nesterov=True,
                weight_decay=1e-4,
            )
        ),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        custom_hooks=[dict(type='HealthHook')],
        resume=resume,
        experiment_name=f'run_{folder.name}_{epochs}_{resume}',
        log_level='ERROR',
        randomness=dict(seed=0),
        default_scope='mmpretrain',
    ).train()
    return seen


def test_phase_2_resumes_exactly(build, tmp_path):
    """Connectors, margins, momenta and the start are in the checkpoint."""
    heads = ofd(start=dict(epochs=1))
    whole = build(heads, init=False)
    terms = run(whole, tmp_path / 'whole', 3)
    assert terms[:2] == [0, 0] and min(terms[2:]) > 0 and len(terms) == 6
    first = build(heads, init=False)
    run(first, tmp_path / 'parts', 2)
    second = build(heads, init=False)
    assert run(second, tmp_path / 'parts', 3, resume=True) == terms[4:]
    state = second.state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert int(second.distill_heads['ofd'].iteration) == 6


# --- processes --------------------------------------------------------------


def take_steps(iterations=3):
    """Run alone or on a worker: the state after a few steps.

    Batch norms normalise by fixed statistics: those of a share of the batch
    would not be those of the whole.
    """
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='DistillClassifier',
            backbone=backbone(),
            neck=NECK,
            head=head(),
            teacher=dict(
                backbone=backbone(50),
                neck=NECK,
                head=head(WIDE[-1]),
                checkpoint='random',
            ),
            # one step of the labels alone
            distill_heads={**ofd(start=1), **KD},
        )
    )
    model.init_weights()
    model.double()
    rank, world = dist.get_rank(), dist.get_world_size()
    wrapper = model
    if world > 1:
        wrapper = MMDistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.1, 0.9
    )
    logs, gradients = [], {}
    for iteration in range(iterations):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        images, samples = batch(seed=iteration)
        images = images.double().tensor_split(world)[rank]
        share = len(samples) // world
        samples = samples[rank * share : (rank + 1) * share]
        terms = wrapper(images, samples, mode='loss')
        optimizer.zero_grad()
        sum(terms.values()).backward()
        gradients = {
            name: p.grad.clone()
            for name, p in model.named_parameters()
            if p.grad is not None
        }
        optimizer.step()
        logs.append({key: value.item() for key, value in terms.items()})
    return model.state_dict(), gradients, logs


@pytest.mark.dist
def test_two_processes_train_as_one(two_processes):
    alone, gradients, logs = take_steps()
    (first, own, logs0), (second, _, logs1) = two_processes(take_steps)
    assert own.keys() == gradients.keys()
    assert {name.split('.')[0] for name in own} == {
        'backbone',
        'head',
        'distill_heads',
    }
    for name, value in gradients.items():
        assert value.abs().sum() > 0, name
        torch.testing.assert_close(
            own[name], value, rtol=1e-8, atol=1e-12, msg=name
        )
    assert first.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            first[name], value, rtol=1e-8, atol=1e-12, msg=name
        )
        assert torch.equal(first[name], second[name]), name
    for a, b, whole in zip(logs0, logs1, logs, strict=True):
        for key, value in whole.items():
            assert (a[key] + b[key]) / 2 == pytest.approx(value, rel=1e-8)
    assert logs[0]['ofd.loss_overhaul'] == 0 < logs[1]['ofd.loss_overhaul']


# --- refusals ---------------------------------------------------------------


def test_plan_is_checked(build):
    model = build(ofd(start=dict(epochs=9)), init=False)
    plan = dict(batch=N, epoch_length=2)
    with pytest.raises(SetupError, match='never distil'):
        model.check(TrainingPlan(max_iters=6, **plan))
    with pytest.raises(SetupError, match='2 views.*MultiView'):
        model.check(TrainingPlan(max_iters=60, num_views=2, **plan))
    model.check(TrainingPlan(max_iters=60, num_views=1, **plan))


def test_unlike_stage_counts(build):
    three = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
    with pytest.raises(ValueError, match='student has 3 stages, the teacher'):
        build(
            ofd(),
            init=False,
            backbone=backbone(out_indices=(2,), **three),
            head=head(CHANNELS[2]),
        )


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(head=None), 'give model.head'),
        (dict(teacher=None), 'needs a frozen teacher'),
        (
            dict(teacher=dict(backbone=backbone(), frozen=False)),
            'needs a frozen teacher',
        ),
        (dict(distill_heads={}), 'distill_heads is empty'),
        (
            dict(teacher=dict(backbone=backbone(), checkpoint='random')),
            'give model.teacher.head',
        ),
        (
            dict(distill_heads=dict(a=dict(type='EmbeddingHead'))),
            r"distill_heads.a \(EmbeddingHead\) asks for \['embeddings'\]",
        ),
        (
            dict(distill_heads=dict(a=dict(type='LogitHead', alpha=2))),
            r'model.distill_heads.a \(LogitHead\): alpha=2',
        ),
        (
            dict(backbone=dict(type='VisionTransformer', arch='deit-tiny')),
            'VisionTransformer are not known',
        ),
    ],
)
def test_refuses_configs(build, change, message):
    heads = {**KD, **ofd()} if 'backbone' in change else KD
    with pytest.raises(ValueError, match=message):
        build(**{'heads': heads, 'init': False, **change})


def test_unlike_classes(build):
    with pytest.raises(
        ValueError,
        match=r'distill_heads.kd \(LogitHead\): model.head scores 3 classes, '
        r'model.teacher.head 5: .*num_classes',
    ):
        build(KD, init=False, head=head(classes=3))
    assert count_classes(nn.Sequential(nn.Linear(3, 4), nn.ReLU())) == 4
    assert count_classes(nn.Identity()) is None
    # of a head that does not tell, in the first step
    with pytest.raises(SetupError, match='teacher scores 5.*student 3'):
        MODELS.build(KD['kd']).loss(
            Step(
                student=Encodings(logits=[torch.zeros(N, 3)]),
                teacher=Encodings(logits=[torch.zeros(N, 5)]),
            )
        )


def test_unlike_strides(build):
    with pytest.raises(
        ValueError, match=r'distill_heads.ofd \(OverhaulHead\): stage 3: '
    ):
        build(
            ofd(),
            init=False,
            backbone=backbone(strides=(1, 2, 1, 2), dilations=(1, 1, 2, 1)),
        )


def test_a_wrong_file(build, tmp_path):
    model = build(KD)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match='does not fit'):
        build(
            KD,
            teacher=dict(
                backbone=backbone(50),
                neck=NECK,
                head=head(WIDE[-1]),
                checkpoint=str(tmp_path / 'bare.pth'),
            ),
        )


def test_never_teaches_with_weights_that_were_not_loaded(build):
    model = build(KD, init=False).train()
    with pytest.raises(RuntimeError, match='never loaded'):
        model.loss(*batch())


def test_heads_of_the_distiller_fit_in(build):
    """Features by regression: student 32 wide, teacher 128."""
    heads = dict(
        reg=dict(
            type='EmbeddingHead',
            field='features',
            student_dim=CHANNELS[-1],
            teacher_dim=WIDE[-1],
        ),
        at=dict(type='AttentionTransferHead'),
    )
    model = build(heads).train()
    images, samples = batch()
    losses = model.loss(images, samples)
    assert set(losses) == {
        'loss_labels',
        'reg.loss_embedding',
        'at.loss_attention',
    }
    assert isinstance(model, DistillClassifier)


def test_the_teacher_sees_its_own_normalisation(build, teacher_file):
    teacher = dict(
        backbone=backbone(50),
        neck=NECK,
        head=head(WIDE[-1]),
        checkpoint=teacher_file,
        mean=[100.0, 110.0, 120.0],
        std=[50.0, 60.0, 70.0],
    )
    own = dict(mean=[10.0, 20.0, 30.0], std=[5.0, 4.0, 3.0], to_rgb=True)
    model = build(KD, teacher=teacher, data_preprocessor=own)
    images, samples = batch()
    seen = []
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    model.loss(images, samples)
    shape = (1, 3, 1, 1)
    pixels = images * torch.tensor(own['std']).view(shape)
    pixels = pixels + torch.tensor(own['mean']).view(shape)
    expected = (pixels - torch.tensor(teacher['mean']).view(shape)) / (
        torch.tensor(teacher['std']).view(shape)
    )
    torch.testing.assert_close(seen[0], expected)
    with pytest.raises(ValueError, match='model.teacher: '):
        build(KD, teacher=teacher)  # of the student nothing is known


def test_a_frozen_backbone_learns_nothing_from_maps(build):
    with pytest.raises(ValueError, match='ofd.*teaches the backbone'):
        build(ofd(), freeze_backbone=True)
