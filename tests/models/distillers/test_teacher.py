"""The teacher: loaded strictly or refused, frozen for ever, saved by name."""

import copy
import hashlib

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.data import Dataset

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck

D, K = 6, 5


class Backbone(BaseModule):
    """One convolution with batch norm; random at birth, zero when init."""

    def __init__(self, width=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def init_weights(self):
        super().init_weights()
        nn.init.zeros_(self.stem.weight)

    def forward(self, x):
        return (self.norm(self.stem(x)).relu(),)


def make_neck(width=4, out_channels=D):
    return DropoutProjectionNeck(width, 7, out_channels)


def pair(seed=5, width=4):
    """A backbone and a projector with weights of their own."""
    torch.manual_seed(seed)
    parts = nn.ModuleDict(
        dict(backbone=Backbone(width), neck=make_neck(width))
    )
    with torch.no_grad():
        for value in parts.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.5)
    return parts


def state(prefix='', **kwargs):
    return {prefix + k: v for k, v in pair(**kwargs).state_dict().items()}


@pytest.fixture
def path(tmp_path):
    """A checkpoint like those of OSS: two networks and a head."""
    file = tmp_path / 'teacher.pth'
    torch.save(
        dict(
            state_dict={
                **state(seed=5),
                **state('teacher.', seed=6),
                'heads.clustering.prototypes.weight': torch.eye(K, D),
                'data_preprocessor.mean': torch.zeros(3),
            },
            meta=dict(epoch=3),
        ),
        file,
    )
    return file


def build(checkpoint, width=4, neck=True, **kwargs):
    return Teacher(
        Backbone(width),
        make_neck(width) if neck else None,
        checkpoint=str(checkpoint),
        **kwargs,
    )


def assert_weights(teacher, weights):
    own = {
        k: v
        for part in ('backbone', 'neck')
        if getattr(teacher, part) is not None
        for k, v in getattr(teacher, part)
        .state_dict(prefix=f'{part}.')
        .items()
    }
    for key, value in own.items():
        assert torch.equal(value, weights[key]), key


# --- loading ----------------------------------------------------------------


def test_loads_the_student_of_the_file_by_default(path):
    teacher = build(path)
    teacher.init_weights()
    assert_weights(teacher, state(seed=5))
    assert teacher.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize('prefix', ['teacher.', 'teacher'])
def test_loads_the_network_that_the_prefix_names(path, prefix):
    teacher = build(path, prefix=prefix)
    teacher.init_weights()
    assert_weights(teacher, state(seed=6))


def test_a_neck_of_the_file_may_stay_unused(path):
    teacher = build(path, neck=False)
    teacher.init_weights()
    assert_weights(teacher, state(seed=5))
    assert teacher.neck is None


def test_an_online_teacher_may_start_from_a_file(path):
    teacher = build(path, frozen=False)
    teacher.init_weights()
    assert_weights(teacher, state(seed=5))
    teacher.train()
    assert teacher.training and teacher.backbone.norm.training
    assert all(p.requires_grad for p in teacher.parameters())


def test_an_online_teacher_is_initialised_as_usual():
    teacher = Teacher(Backbone(), make_neck(), frozen=False)
    teacher.init_weights()
    assert not teacher.backbone.stem.weight.any()
    teacher.ensure_loaded()


def test_a_random_teacher_has_to_be_asked_for():
    for checkpoint in (None, ''):
        with pytest.raises(ValueError, match="'random' for an untrained"):
            Teacher(Backbone(), make_neck(), checkpoint=checkpoint)
    teacher = Teacher(Backbone(), make_neck(), checkpoint='random')
    teacher.init_weights()
    teacher.ensure_loaded()
    assert not teacher.backbone.stem.weight.any()


def test_given_modules_are_left_alone():
    parts = pair()
    teacher = Teacher(parts['backbone'], parts['neck'], checkpoint='given')
    teacher.init_weights()
    teacher.ensure_loaded()
    assert_weights(teacher, state(seed=5))


def test_built_by_config(path):
    config = dict(
        type='Teacher',
        backbone=dict(
            type='ResNet', depth=18, stem_channels=4, base_channels=4
        ),
        neck=dict(
            type='NonLinearNeck',
            in_channels=32,
            hid_channels=8,
            out_channels=D,
            norm_cfg=dict(type='BN1d'),
        ),
        checkpoint=str(path.with_name('r18.pth')),
        layout='mmpretrain',
    )
    source = MODELS.build({**config, 'checkpoint': 'random'})
    torch.save(dict(state_dict=source.state_dict()), config['checkpoint'])
    teacher = MODELS.build(config)
    teacher.init_weights()
    assert_weights(teacher, source.state_dict())


def test_building_reads_nothing():
    with torch.device('meta'):
        teacher = build('/nowhere/teacher.pth', extra_keys=dict(a='b'))
    assert teacher.backbone.stem.weight.is_meta
    with pytest.raises(RuntimeError, match=r'nowhere/teacher\.pth.*init_w'):
        teacher.ensure_loaded()


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file(state(), tmp_path / 'a.safetensors')
    teacher = build(tmp_path / 'a.safetensors')
    teacher.init_weights()
    assert_weights(teacher, state())


def test_extra_tensors(path):
    key = 'heads.clustering.prototypes.weight'
    teacher = build(path, prefix='teacher.', extra_keys=dict(prototypes=key))
    with pytest.raises(RuntimeError, match='never loaded'):
        teacher.extra('prototypes')
    teacher.init_weights()
    assert torch.equal(teacher.extra('prototypes'), torch.eye(K, D))
    assert not any('extras' in key for key in teacher.state_dict())
    assert copy.deepcopy(teacher).extra('prototypes').shape == (K, D)
    with pytest.raises(ValueError, match=r'extra_keys=dict\(queue=<key'):
        teacher.extra('queue')
    teacher = build(path, extra_keys=dict(a='heads.swav.prototypes.weight'))
    with pytest.raises(
        ValueError,
        match=r"no tensor 'heads\.swav\.prototypes\.weight'.*"
        r'similar keys: heads\.clustering\.prototypes\.weight',
    ):
        teacher.init_weights()


# --- errors before training -------------------------------------------------


def init_error(error, **kwargs):
    teacher = build(**kwargs)
    before = [p.clone() for p in teacher.parameters()]
    with pytest.raises(error) as info:
        teacher.init_weights()
    for old, new in zip(before, teacher.parameters(), strict=True):
        assert torch.equal(old, new)  # nothing half loaded
    with pytest.raises(RuntimeError, match='never loaded'):
        teacher.ensure_loaded()
    return str(info.value)


def test_missing_file(tmp_path):
    message = init_error(FileNotFoundError, checkpoint=tmp_path / 'no.pth')
    assert f'checkpoint {tmp_path}/no.pth not found' in message


def test_truncated_file(path):
    path.write_bytes(path.read_bytes()[:-2000])
    message = init_error(ValueError, checkpoint=path)
    assert 'teacher.pth: truncated or damaged' in message


def test_another_width(path):
    message = init_error(ValueError, checkpoint=path, width=8)
    assert (
        "teacher.pth (prefix '', layout 'mmssd') does not fit the teacher"
        in message
    )
    assert 'backbone.stem.weight (4, 3, 3, 3) instead of (8, 3, 3, 3)' in (
        message
    )


def test_another_architecture(path):
    weights = {f'backbone.blocks.{i}.weight': torch.ones(1) for i in range(3)}
    torch.save(dict(state_dict=weights), path)
    message = init_error(ValueError, checkpoint=path)
    assert 'not one key matches, it is of another architecture' in message
    assert 'backbone.blocks.0.weight' in message
    assert 'backbone.stem.weight' in message


def test_lacking_and_surplus_layers(path):
    weights = state()
    weights['backbone.more.weight'] = weights.pop('backbone.stem.bias')
    del weights['neck.fc1.weight']
    torch.save(weights, path)
    message = init_error(ValueError, checkpoint=path)
    assert '2 missing key(s): backbone.stem.bias, neck.fc1.weight' in message
    assert '1 surplus key(s): backbone.more.weight' in message


def test_a_file_without_projector(path):
    weights = {k: v for k, v in state().items() if 'backbone' in k}
    torch.save(weights, path)
    message = init_error(ValueError, checkpoint=path)
    assert 'missing key(s): neck.fc0.weight' in message
    teacher = build(path, neck=False)
    teacher.init_weights()


@pytest.mark.parametrize(
    ('renamed', 'prefix', 'hint'),
    [
        ('student.backbone.', '', "use prefix='student.'"),
        ('backbone.', 'teacher.', "use prefix=''"),
        ('encoder_q.', '', "its backbone seems to be at 'encoder_q.'"),
        ('', '', "save them with 'backbone.' before each"),
        ('bottom.x_', '', 'another architecture or layout'),
    ],
)
def test_no_matching_key(path, renamed, prefix, hint):
    weights = {
        renamed + key.removeprefix('backbone.'): value
        for key, value in state().items()
        if key.startswith('backbone.')
    }
    torch.save(dict(state_dict=weights, epoch=1), path)
    message = init_error(
        ValueError, checkpoint=path, prefix=prefix, neck=False
    )
    assert f"no key begins with '{prefix}backbone.'" in message
    assert hint in message
    assert f'{next(iter(weights)).split(".")[0]}.* (' in message


def test_unknown_layout(path):
    with pytest.raises(
        ValueError, match=r"layout='clip'.*'auto', 'byol'.*'mmpretrain'"
    ):
        build(path, layout='clip')


def test_extra_keys_need_a_file():
    with pytest.raises(ValueError, match="but checkpoint='random'"):
        Teacher(Backbone(), checkpoint='random', extra_keys=dict(a='b'))


# --- frozen -----------------------------------------------------------------


def test_frozen_for_ever(path):
    parent = nn.ModuleDict(dict(teacher=build(path)))
    for _ in range(2):
        parent.train()
        teacher = parent['teacher']
        assert not any(m.training for m in teacher.modules())
        assert not any(p.requires_grad for p in teacher.parameters())
        teacher.init_weights()
    teacher.train(True)
    assert not teacher.training
    before = copy.deepcopy(teacher.backbone.state_dict())
    x = torch.randn(2, 3, 5, 5)
    first = teacher.backbone(x)[0]
    for _ in range(3):
        assert torch.equal(teacher.backbone(x)[0], first)
    for key, value in teacher.backbone.state_dict().items():
        assert torch.equal(value, before[key])


def test_published_code_leaves_it_in_train_mode(path):
    parent = nn.ModuleDict(dict(teacher=build(path, imitate_train_mode=True)))
    teacher = parent['teacher']
    teacher.init_weights()
    assert not teacher.training
    parent.train()
    assert all(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.randn(4, 3, 5, 5)
    norm = teacher.backbone.norm
    maps = teacher.backbone.stem(x)
    mean = maps.mean((0, 2, 3), keepdim=True)
    variance = maps.var((0, 2, 3), unbiased=False, keepdim=True)
    weight, bias = (p[:, None, None] for p in (norm.weight, norm.bias))
    expected = (maps - mean) / (variance + norm.eps).sqrt() * weight + bias
    before = copy.deepcopy(teacher.state_dict())
    drifting = norm.running_mean.clone()
    torch.testing.assert_close(
        teacher.backbone(x)[0], expected.relu(), rtol=1e-4, atol=1e-5
    )
    assert not torch.equal(norm.running_mean, drifting)
    # a checkpoint names the file, whatever drifted
    assert teacher.state_dict().keys() == before.keys()
    assert all(
        torch.equal(v, before[k]) for k, v in teacher.state_dict().items()
    )
    parent.eval()
    assert not any(m.training for m in teacher.modules())
    with pytest.raises(ValueError, match='imitate_train_mode=True is for a'):
        build(path, frozen=False, imitate_train_mode=True)


# --- in a checkpoint of the run ---------------------------------------------

STATE_DICTS = {
    'torch': lambda module: module.state_dict(),
    'mmengine': mmengine_checkpoint.get_state_dict,
}
LOADERS = {
    'torch': lambda module, weights: module.load_state_dict(weights),
    'mmengine': lambda module, weights: mmengine_checkpoint.load_state_dict(
        module, weights, strict=True
    ),
}


def parent_of(teacher):
    return nn.ModuleDict(dict(student=nn.Linear(2, 2), teacher=teacher))


@pytest.fixture(params=['torch', 'mmengine'])
def traversal(request):
    return STATE_DICTS[request.param], LOADERS[request.param]


def test_saved_by_name(path, traversal):
    get, load = traversal
    parent = parent_of(build(path))
    parent['teacher'].init_weights()
    saved = get(parent)
    assert set(saved) == {
        'student.weight',
        'student.bias',
        'teacher.checkpoint_sha256',
        'teacher.checkpoint_path',
    }
    digest = saved['teacher.checkpoint_sha256']
    assert digest.dtype == torch.uint8 and digest.shape == (32,)
    assert bytes(digest.tolist()) == hashlib.sha256(path.read_bytes()).digest()
    assert bytes(saved['teacher.checkpoint_path'].tolist()) == bytes(path)
    # and alone, as the root of the traversal
    assert set(get(parent['teacher'])) == {
        'checkpoint_sha256',
        'checkpoint_path',
    }
    again = parent_of(build(path))
    again['teacher'].init_weights()
    load(again, saved)
    load(again['teacher'], get(parent['teacher']))
    assert_weights(again['teacher'], state(seed=5))


def test_the_same_file_elsewhere_is_the_same_teacher(path, traversal):
    get, load = traversal
    teacher = build(path)
    teacher.init_weights()
    copied = path.with_name('a_longer_name_of_the_same_file.pth')
    copied.write_bytes(path.read_bytes())
    again = build(copied)
    again.init_weights()
    load(again, get(teacher))
    assert bytes(again.checkpoint_path.tolist()) == bytes(copied)


@pytest.mark.parametrize('first', ['init', 'load'])
def test_another_teacher_is_refused(path, traversal, first):
    get, load = traversal
    parent = parent_of(build(path))
    parent['teacher'].init_weights()
    saved = get(parent)
    other = path.with_name('other.pth')
    torch.save(state(seed=8), other)
    again = parent_of(build(other))
    hashes = [
        hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, other)
    ]
    if first == 'init':
        again['teacher'].init_weights()
    with pytest.raises(ValueError) as error:
        load(again, saved)
        again['teacher'].init_weights()  # the other order
    assert f'trained with {path} (sha256 {hashes[0]})' in str(error.value)
    assert f'loads {other} (sha256 {hashes[1]})' in str(error.value)


def test_missing_keys_do_not_name_frozen_weights(path, traversal, caplog):
    get, load = traversal
    parent = parent_of(build(path))
    with pytest.raises(RuntimeError) as error:
        load(parent, {'student.bias': torch.zeros(2), 'teacher.x': digest()})
    message = str(error.value)
    assert 'student.weight' in message
    assert 'teacher.checkpoint_sha256' in message
    assert 'teacher.x' in message
    assert 'teacher.backbone' not in message and 'teacher.neck' not in message


def digest():
    return torch.zeros(32, dtype=torch.uint8)


def test_saved_again_before_it_was_loaded(path, traversal):
    get, load = traversal
    teacher = build(path)
    teacher.init_weights()
    saved = get(teacher)
    converter = build('/elsewhere/some_other_name.pth')
    load(converter, saved)
    with pytest.raises(RuntimeError, match='never loaded'):
        converter.ensure_loaded()
    for key, value in get(converter).items():
        assert torch.equal(value, saved[key])


def test_an_online_teacher_is_saved_with_its_weights(path, traversal):
    get, load = traversal
    teacher = build(path, frozen=False)
    teacher.init_weights()
    saved = get(teacher)
    assert set(saved) == set(state())
    again = Teacher(Backbone(), make_neck(), frozen=False)
    load(again, saved)
    assert_weights(again, state(seed=5))


@pytest.mark.parametrize('checkpoint', ['random', 'given'])
def test_a_frozen_teacher_without_file_is_saved_with_its_weights(
    checkpoint, traversal
):
    get, load = traversal
    parts = pair()
    teacher = Teacher(parts['backbone'], parts['neck'], checkpoint=checkpoint)
    again = Teacher(Backbone(), make_neck(), checkpoint=checkpoint)
    load(again, get(teacher))
    assert_weights(again, state(seed=5))


def test_frozen_and_online_do_not_mix(path, traversal):
    get, load = traversal
    frozen = build(path)
    frozen.init_weights()
    online = Teacher(Backbone(), make_neck(), frozen=False)
    with pytest.raises(ValueError, match=rf'frozen teacher, {path}'):
        load(online, get(frozen))
    with pytest.raises(ValueError, match='online teacher.*frozen=False'):
        load(frozen, get(online))
    assert_weights(frozen, state(seed=5))


def test_the_frozen_teacher_of_a_run_is_no_source(path):
    parent = parent_of(build(path))
    parent['teacher'].init_weights()
    run = path.with_name('run.pth')
    torch.save(dict(state_dict=parent.state_dict()), run)
    with pytest.raises(
        ValueError, match=f'only the path is kept: give {path}'
    ):
        build(run, prefix='teacher.').init_weights()


def test_copies_know_what_they_loaded(path):
    teacher = build(path)
    teacher.init_weights()
    copied = copy.deepcopy(teacher)
    copied.ensure_loaded()
    assert copied.sha256 == teacher.sha256
    assert set(copied.state_dict()) == set(teacher.state_dict())
    # hooks of the copy are about the copy
    copied.load_state_dict(teacher.state_dict())
    copied.train()
    assert not copied.backbone.training


# --- inside a runner --------------------------------------------------------


class Views(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        views = torch.randn(2, 3, 6, 6, generator=generator)
        return dict(inputs=list(views), data_samples=index)


def run(folder, path, max_iters=4, resume=False, **kwargs):
    torch.manual_seed(0)
    model = Distiller(
        backbone=Backbone(),
        neck=make_neck(),
        teacher=build(
            path,
            extra_keys=dict(prototypes='heads.clustering.prototypes.weight'),
            **kwargs,
        ),
        heads=dict(
            clustering=dict(
                type='OnlineClusteringHead',
                embed_dim=D,
                num_prototypes=K,
                train=('student',),
                teacher_prototypes=True,
            )
        ),
    )
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Views(),
            batch_size=4,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=2, by_epoch=False)
        ),
        resume=resume,
        experiment_name=f'{folder.name}_{max_iters}_{resume}',
        log_level='ERROR',
        default_scope='mmpretrain',
    )
    runner.train()
    return model


def test_in_a_runner(path, tmp_path):
    folder = tmp_path / 'run'
    model = run(folder, path)
    # loaded in the runner's init_weights, and not initialised over it
    assert_weights(model.teacher, state(seed=5))
    assert not model.teacher.training and model.training
    assert torch.equal(
        model.heads['clustering'].teacher_prototypes, torch.eye(K, D)
    )
    saved = torch.load(folder / 'iter_4.pth', weights_only=False)['state_dict']
    assert {key for key in saved if key.startswith('teacher.')} == {
        'teacher.checkpoint_sha256',
        'teacher.checkpoint_path',
    }
    whole = run(tmp_path / 'whole', path, max_iters=6)
    resumed = run(folder, path, max_iters=6, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    assert_weights(resumed.teacher, state(seed=5))
    # resumed under another teacher
    weights = torch.load(path)
    weights['state_dict']['backbone.stem.bias'] += 1
    torch.save(weights, path)
    with pytest.raises(ValueError, match='another teacher'):
        run(folder, path, max_iters=8, resume=True)


def test_a_runner_stops_before_training(path, tmp_path):
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r'teacher\.pth: truncated'):
        run(tmp_path / 'run', path)
    with pytest.raises(FileNotFoundError, match='none.pth not found'):
        run(tmp_path / 'run', tmp_path / 'none.pth')


def test_a_distiller_does_not_use_an_unloaded_teacher(path):
    model = Distiller(
        Backbone(),
        make_neck(),
        heads=dict(
            a=dict(
                type='OnlineClusteringHead',
                embed_dim=D,
                num_prototypes=K,
                train=('student',),
            )
        ),
        teacher=build(path),
    )
    views = [torch.randn(4, 3, 6, 6) for _ in range(2)]
    with pytest.raises(RuntimeError, match='init_weights'):
        model.loss(views)
    model.init_weights()
    model.loss(views)['a.loss_student'].backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.backbone.parameters())
