"""Every config loads, builds, and trains a step."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

from mmssd.apis.config import load_config, register_modules

ROOT = Path(__file__).resolve().parents[2]
LEAVES = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
OSS = [path for path in LEAVES if path.parent.name == 'oss']
CONTRAST = [
    path
    for path in LEAVES
    if (
        path.parent.name == 'disco'
        and not path.stem.startswith(('kd', 'information-plane'))
    )
    or (
        path.parent.name == 'baselines'
        and path.stem.startswith(('mocov1_', 'mocov2_', 'swav_', 'dino_'))
    )
]
CONTRAST_FAMILY = (
    'disco_resnet18-resnet50_8xb32-coslr-200e_in1k',
    'disco-dino_vit-tiny-vit-small_8xb64-coslr-100e_in1k',
    'mocov2_resnet18_8xb32-coslr-200e_in1k',
)
FAMILY = 'kd_resnet18-resnet50_8xb32-coslr-800e_in1k'


def ids(path):
    return path.stem


@pytest.fixture
def meta(monkeypatch):
    """Build without memory; what a constructor reads stays real."""
    linspace = torch.linspace  # mmpretrain reads its drop path rates
    monkeypatch.setattr(
        torch,
        'linspace',
        lambda *args, **kwargs: linspace(*args, **{'device': 'cpu', **kwargs}),
    )
    with torch.device('meta'):
        yield


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_loads_and_builds_without_memory(path, meta):
    config = load_config(path)
    scope = config.default_scope
    pytest.importorskip(scope)
    register_modules(scope)
    with DefaultScope.overwrite_default_scope(scope):
        model = ENGINE_MODELS.build(config.model)
    state = model.state_dict()
    assert any(key.startswith('backbone.') for key in state)
    assert all(value.is_meta for value in state.values())


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_says_what_it_is(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith('"""') and len(first) > 20


def _teacher_file(folder):
    """Write what the frozen teacher's run would have left."""
    config = load_config(
        ROOT / 'configs/oss/swav_resnet50_8xb32-coslr-800e_in1k.py'
    )
    model = MODELS.build(config.model)
    path = folder / 'epoch_800.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.mark.parametrize(
    'path',
    [
        path
        if path.stem == FAMILY
        else pytest.param(path, marks=pytest.mark.slow)
        for path in OSS
    ],
    ids=ids,
)
def test_oss_config_takes_a_step(path, tmp_path):
    config = load_config(path)
    teacher = config.model.get('teacher')
    if teacher is not None and teacher.frozen:
        teacher.checkpoint = _teacher_file(tmp_path)
    if config.model.heads.get('domain'):
        config.model.heads.domain.alpha = 1.0  # a ramp needs a runner
    clustering = config.model.heads.clustering
    clustering.freeze_prototypes = clustering.queue_start = 0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    if teacher is not None and teacher.frozen:
        model.teacher.init_weights()
        for head in model.heads.values():
            head.prepare(model.teacher)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    views = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    views += [torch.randn(2, 3, 32, 32) for _ in range(2)]
    model.train()
    logs = model.train_step(
        dict(inputs=views, data_samples=None), optim_wrapper
    )

    expected = {'clustering.loss_student'}
    if teacher is not None and not teacher.frozen:
        expected.add('clustering.loss_teacher')
    if config.model.heads.get('domain'):
        expected.add('domain.loss_domain')
    terms = {key for key in logs if 'loss_' in key}
    assert terms == expected
    assert all(torch.isfinite(value).all() for value in logs.values())
    moved = {
        k
        for k, p in model.named_parameters()
        if not torch.equal(before[k], p.detach())
    }
    for part in ('backbone.', 'neck.', 'heads.clustering.prototypes'):
        assert any(key.startswith(part) for key in moved), part
    teacher_moved = any(key.startswith('teacher.') for key in moved)
    assert teacher_moved == (teacher is not None and not teacher.frozen)


def small_views(model):
    """Two global crops, and small ones where the method has them."""
    views = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    if model.heads.get('clustering') or model.heads.get('dino'):
        views += [torch.randn(2, 3, 32, 32) for _ in range(2)]
    return views


@pytest.mark.parametrize(
    'path',
    [
        path
        if path.stem in CONTRAST_FAMILY
        else pytest.param(path, marks=pytest.mark.slow)
        for path in CONTRAST
    ],
    ids=ids,
)
def test_contrast_config_takes_a_step(path):
    config = load_config(path)
    model_config = config.model
    teacher = model_config.get('teacher')
    if teacher is not None:
        # a run of ours, or a published file
        published = 'layout' in teacher
        assert published == ('released' in path.stem)
        folder = 'checkpoints/' if published else 'work_dirs/'
        assert teacher.checkpoint.startswith(folder)
        teacher.checkpoint = 'random'
    heads = {k: h for k, h in model_config.heads.items() if h is not None}
    if 'contrast' in heads:
        assert config.sync_bn is None  # shuffling would be for nothing
        assert heads['contrast'].queue_length == 65536
        heads['contrast'].queue_length = 16
    if 'clustering' in heads:
        heads['clustering'].freeze_prototypes = 0
        heads['clustering'].queue_start = 0
    if 'dino' in heads:
        assert model_config.momentum.final_decay == 1.0
        model_config.momentum.final_decay = None  # needs a runner
        heads['dino'].freeze_last_layer = 0
        heads['dino'].num_prototypes = 64
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_config)
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    model._check_use()  # no network is there for nothing
    before = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.train()
    logs = model.train_step(
        dict(inputs=small_views(model_config), data_samples=None),
        optim_wrapper,
    )
    assert all(torch.isfinite(value).all() for value in logs.values())
    assert {key.split('.')[0] for key in logs} == {'loss', *heads}
    moved = {
        k
        for k, v in model.state_dict().items()
        if not torch.equal(before[k], v)
    }
    for part in ('backbone.', 'neck.'):
        assert any(key.startswith(part) for key in moved), part
    if 'contrast' in heads:
        assert 'heads.contrast.queue.features' in moved
    if 'dino' in heads:
        assert 'heads.dino.center' in moved
    drifting = teacher is not None and teacher.get('imitate_train_mode')
    moved_teacher = {key for key in moved if key.startswith('teacher.')}
    assert bool(moved_teacher) == bool(drifting)
    assert not any(key.endswith('weight') for key in moved_teacher)


REGRESSION = [
    path
    for path in LEAVES
    if path.parent.name == 'disco'
    or path.stem.startswith(('seed-l2', 'reg', 'disco', 'rkd-disco'))
]


@pytest.mark.parametrize('path', REGRESSION, ids=ids)
def test_says_the_weight_of_its_regression(path):
    """No config depends on what the head takes by default."""
    model = load_config(path).model
    for head in model.get('heads', {}).values():
        if head is None or head.type != 'EmbeddingHead':
            continue
        expected = 32.0
        if path.parent.name in ('seed', 'baselines'):
            expected = 1.0
        elif 'swav' in path.stem.split('_')[0]:
            expected = 0.5 / 128
        assert head.weight == expected


def test_the_probe_of_the_information_plane(tmp_path):
    """It starts from a student, trains the probe alone, and records."""
    config = load_config(next((ROOT / 'configs').rglob('information-plane*')))
    student = load_config(
        ROOT / 'configs/disco/disco_resnet18-resnet50_8xb32-coslr-200e_in1k.py'
    )
    assert Path(config.load_from).parent.name == Path(student.filename).stem
    student.model.teacher.checkpoint = 'random'
    student.model.heads.contrast.queue_length = 16
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        state = MODELS.build(student.model).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'epoch_200.pth')
    images = dict(
        type='CustomDataset',
        data_prefix=str(tmp_path / 'images'),
        pipeline=[
            dict(type='LoadImageFromFile', color_type='unchanged'),
            dict(type='Resize', scale=32),
            dict(type='PackInputs'),
        ],
    )
    for label in range(2):
        folder = tmp_path / 'images' / str(label)
        folder.mkdir(parents=True)
        for number in range(2):
            image = Image.new('RGB', (32, 32), (90 * label, 50, 60 * number))
            image.save(folder / f'{number}.png')
    config.merge_from_dict(
        dict(
            load_from=str(tmp_path / 'epoch_200.pth'),
            work_dir=str(tmp_path / 'run'),
            train_cfg=dict(max_epochs=2, val_interval=2),
        )
    )
    config.custom_hooks[1].images = images
    for name in ('train_dataloader', 'val_dataloader'):
        config[name] = dict(
            batch_size=2,
            num_workers=0,
            sampler=config[name].sampler,
            dataset=images,
        )
    runner = Runner.from_cfg(config)
    runner.train()
    trained = runner.model.state_dict()
    for key, value in state.items():
        if key.startswith('backbone.'):
            assert torch.equal(trained[key], value), key
    assert trained['head.fc.weight'].any()
    text = (tmp_path / 'run' / 'information_plane.json').read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r['iter'] for r in records] == [0, 1, 2]  # the first epoch
    assert records[-1]['i_xt'] > 0


@pytest.mark.parametrize(
    ('name', 'epochs'),
    [
        ('baselines/mocov2_resnet18_8xb32-coslr-200e_in1k', 200),
        ('baselines/mocov2_resnet152_8xb32-coslr-400e_in1k', 400),
        ('disco/disco_mobilenet-v3-resnet50w2_8xb32-coslr-340e_in1k', 340),
    ],
)
def test_schedule_of_moco(name, epochs):
    """A cosine that steps once an epoch, down to zero."""
    config = load_config(ROOT / 'configs' / f'{name}.py')
    assert config.train_cfg.max_epochs == epochs
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], config.optim_wrapper.optimizer.lr)
    (scheduler,) = (
        PARAM_SCHEDULERS.build(s, default_args=dict(optimizer=optimizer))
        for s in config.param_scheduler
    )
    optimizer.step()
    for epoch in range(epochs):
        expected = 0.03 * (1 + math.cos(math.pi * epoch / epochs)) / 2
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected)
        scheduler.step()


def test_recipe_of_moco_v1():
    """Linear projector, no blur, temperature 0.07, two drops."""
    config = load_config(
        ROOT / 'configs/baselines/mocov1_resnet50_8xb32-steplr-200e_in1k.py'
    )
    assert config.model.heads.contrast.temperature == 0.07
    assert config.model.neck.type == 'LinearNeck'
    (scheduler,) = config.param_scheduler
    assert scheduler.milestones == [120, 160] and scheduler.gamma == 0.1
    assert config.optim_wrapper.optimizer.lr == 0.03
    views = config.train_dataloader.dataset.pipeline[1]
    assert views.num_views == 2
    assert [t.type for t in views.transforms[0]] == [
        'RandomResizedCrop',
        'RandomGrayscale',
        'ColorJitter',
        'RandomFlip',
    ]


def kept_epochs(path):
    hooks = load_config(ROOT / 'configs' / path).default_hooks
    return hooks.checkpoint.get('keep', ())


def test_epochs_that_others_need_are_kept():
    for teacher in ('resnet34', 'resnet50', 'resnet50w2'):
        # Figure 3
        found = kept_epochs(
            f'oss/oss_resnet18-{teacher}_8xb32-coslr-800e_in1k.py'
        )
        assert set(found) >= {200, 400}
    students = sorted((ROOT / 'configs/seed').glob('seed-teacher-epoch-*'))
    assert len(students) == 3
    for path in students:
        run, name = load_config(path).model.teacher.checkpoint.rsplit('/', 1)
        epoch = int(name.removeprefix('epoch_').removesuffix('.pth'))
        assert epoch in kept_epochs(f'baselines/{Path(run).name}.py')


def test_schedules_of_dino():
    """Warm-up and cosine of the rate; the weight decay rises by a cosine."""
    config = load_config(
        ROOT / 'configs/baselines/dino_vit-tiny_8xb64-coslr-100e_in1k.py'
    )
    config.model.heads.dino.num_prototypes = 64
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        schedulers = [
            PARAM_SCHEDULERS.build(
                dict(scheduler, convert_to_iter_based=False),
                default_args=dict(optimizer=wrapper),
            )
            for scheduler in config.param_scheduler
        ]
    optimizer = wrapper.optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {
        names[id(parameter)]: group
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    decayed = groups['neck.mlp.0.weight']
    spared = groups['neck.mlp.0.bias']
    assert groups['backbone.ln1.weight']['weight_decay'] == 0
    rates, decays = [], []
    for _ in range(100):
        rates.append(decayed['lr'])
        decays.append(decayed['weight_decay'])
        assert spared['weight_decay'] == 0
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    for epoch in (0, 25, 50, 99):
        cosine = (1 + math.cos(math.pi * epoch / 100)) / 2
        assert decays[epoch] == pytest.approx(0.4 - 0.36 * cosine)
    assert rates[0] == pytest.approx(1e-9)
    assert rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)


@pytest.mark.parametrize('path', OSS + CONTRAST, ids=ids)
def test_resnets_start_as_those_of_torchvision(path):
    """mmpretrain would start the last batch norm of each block at zero."""
    model = load_config(path).model
    for network in (model, model.get('teacher')):
        if network and network.backbone.type == 'ResNet':
            assert network.backbone.zero_init_residual is False
