"""Exported backbones: nothing lost, same features, or a readable refusal."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from mmssd.apis import export as exporting
from mmssd.apis.export import export_backbone, read_config
from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.heads.online_clustering_head import OnlineClusteringHead
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck
from mmssd.models.utils.checkpoint import CheckpointError, load_checkpoint

ROOT = Path(__file__).parents[2]
CIFAR = dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8)
RESNET = dict(type='ResNet', depth=18)


def states(config, prefix='backbone.', seed=0):
    """Random numbers in every tensor, batch statistics included."""
    backbone = MODELS.build(config)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in backbone.state_dict().items():
        if value.dim() > 1:
            scale = (2 / value[0].numel()) ** 0.5
            value = scale * torch.randn(value.shape, generator=generator)
        elif value.is_floating_point():
            value = 0.5 + torch.rand(value.shape, generator=generator)
        state[prefix + key] = value
    return state


@pytest.fixture
def run(tmp_path):
    """Write a checkpoint as a run leaves it."""

    def write(backbone=CIFAR, state=None, text=None, **model):
        model = dict(type='Distiller', backbone=backbone, **model)
        if text is None:
            text = Config(
                dict(default_scope='mmpretrain', model=model)
            ).pretty_text
        state = states(backbone) if state is None else state
        path = tmp_path / 'run.pth'
        torch.save(
            dict(
                meta=dict(cfg=text, epoch=1),
                state_dict={**state, 'neck.fc.weight': torch.ones(2)},
            ),
            path,
        )
        return path

    return write


def features(config, state):
    """Last stage of a fresh backbone with these weights."""
    backbone = MODELS.build(config)
    backbone.eval()
    backbone.load_state_dict(state, strict=True)
    with torch.no_grad():
        return backbone(images())[-1]


def images():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(2, 3, 64, 64, generator=generator)


def stripped(state, prefix='backbone.'):
    return {key.removeprefix(prefix): value for key, value in state.items()}


# --- mm -------------------------------------------------------------------


def test_the_student_keeps_its_keys_and_values(run, tmp_path):
    target = tmp_path / 'student.pth'
    result = export_backbone(run(), target)
    written = load_checkpoint(target)['state_dict']
    wanted = states(CIFAR)
    assert set(written) == set(wanted)
    for key, value in written.items():
        assert torch.equal(value, wanted[key])
    assert result.keys == len(wanted)
    assert result.differences == {'ResNet_CIFAR': 0.0}


@pytest.mark.parametrize('part', ['student', 'teacher', 'momentum'])
def test_each_part_is_told_from_the_others(run, tmp_path, part):
    teacher = dict(CIFAR, base_channels=4)
    prefixes = exporting.PARTS
    state = {}
    for seed, (name, prefix) in enumerate(prefixes.items()):
        config = teacher if name == 'teacher' else CIFAR
        state.update(states(config, prefix, seed))
    source = run(state=state, teacher=dict(backbone=teacher))
    target = tmp_path / 'part.pth'
    export_backbone(source, target, part)
    written = load_checkpoint(target)['state_dict']
    own = {k: v for k, v in state.items() if k.startswith(prefixes[part])}
    assert len(written) == len(own)
    for key, value in stripped(written).items():
        assert torch.equal(value, own[prefixes[part] + key])


@pytest.mark.parametrize(
    'scope, kind',
    [
        ('mmpretrain', 'ResNet_CIFAR'),
        ('mmdet', 'mmpretrain.ResNet_CIFAR'),
        ('mmseg', 'mmpretrain.ResNet_CIFAR'),
        ('mmdet', 'ResNet'),
        ('mmseg', 'ResNet'),
    ],
)
def test_other_libraries_load_every_key(run, tmp_path, scope, kind):
    config = CIFAR if 'CIFAR' in kind else RESNET
    target = tmp_path / 'student.pth'
    source = run(config)
    export_backbone(source, target)
    library = pytest.importorskip(f'{scope}.registry')
    pytest.importorskip(f'{scope}.models')
    with DefaultScope.overwrite_default_scope(scope):
        backbone = library.MODELS.build(
            dict(
                config,
                type=kind,
                norm_cfg=dict(type='BN'),
                init_cfg=dict(
                    type='Pretrained',
                    checkpoint=str(target),
                    prefix='backbone.',
                ),
            )
        )
        backbone.init_weights()
    wanted = stripped(states(config))
    loaded = backbone.state_dict()
    assert set(loaded) == set(wanted)
    for key, value in loaded.items():
        assert torch.equal(value, wanted[key]), key
    backbone.eval()
    with torch.no_grad():
        got = backbone(images())[-1]
    torch.testing.assert_close(got, features(config, wanted))


# --- torchvision and timm -------------------------------------------------


@pytest.mark.parametrize('layout', ['torchvision', 'timm'])
@pytest.mark.parametrize('depth', [18, 50])
def test_resnets_give_the_same_features_there(run, tmp_path, layout, depth):
    pytest.importorskip(layout)
    config = dict(RESNET, depth=depth, norm_cfg=dict(type='SyncBN'))
    target = tmp_path / 'plain.pth'
    result = export_backbone(run(config), target, layout=layout)
    if layout == 'timm':
        import timm

        model = timm.create_model(f'resnet{depth}', num_classes=0)
    else:
        import torchvision

        model = torchvision.models.get_model(f'resnet{depth}')
        model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load(target), strict=True)
    with torch.no_grad():
        got = model.eval()(images())
    wanted = features(config, stripped(states(config))).mean((2, 3))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert set(result.differences) == {'ResNet', f'{layout} ResNet'}
    assert max(result.differences.values()) <= 1e-4 * wanted.abs().max()


MOBILE = dict(type='MobileNetV2', out_indices=(2, 4))
EFFICIENT = dict(type='EfficientNet', arch='b0', out_indices=(3,))
PLAIN = dict(conv_cfg=None, norm_cfg=dict(type='BN', eps=1e-5))


@pytest.mark.parametrize(
    ('config', 'last', 'layout', 'name', 'options'),
    [
        (MOBILE, 7, 'torchvision', 'mobilenet_v2', {}),
        (
            dict(MOBILE, widen_factor=0.5),
            *(7, 'torchvision', 'mobilenet_v2', dict(width_mult=0.5)),
        ),
        (MOBILE, 7, 'timm', 'mobilenetv2_100', {}),
        (dict(MOBILE, widen_factor=1.4), 7, 'timm', 'mobilenetv2_140', {}),
        (
            dict(EFFICIENT, **PLAIN),
            *(6, 'torchvision', 'efficientnet_b0', {}),
        ),
        (dict(EFFICIENT, **PLAIN), 6, 'timm', 'efficientnet_b0', {}),
        # mmpretrain's own settings
        (EFFICIENT, 6, 'timm', 'tf_efficientnet_b0', {}),
    ],
)
def test_renamed_networks_give_the_same_features_there(
    run, tmp_path, config, last, layout, name, options
):
    library = pytest.importorskip(layout)
    target = tmp_path / 'plain.pth'
    result = export_backbone(run(config), target, layout=layout)
    if layout == 'timm':
        model = library.create_model(name, num_classes=0)
    else:
        model = library.models.get_model(name, **options)
        model.classifier = torch.nn.Identity()
    model.load_state_dict(torch.load(target), strict=True)
    backbone = MODELS.build(dict(config, out_indices=(last,)))
    backbone.load_state_dict(stripped(states(config)))
    x = images().double()  # in float32 the kernels sum in other orders
    with torch.no_grad():
        got = model.double().eval()(x)
        backbone.double().eval()
        wanted = backbone(x)[-1].mean((2, 3))
    assert got.abs().max() > 0.01
    torch.testing.assert_close(got, wanted)
    assert list(result.differences) == [f'{layout} {type(model).__name__}']


def test_a_narrow_resnet_is_plain_but_has_no_counterpart(run, tmp_path):
    target = tmp_path / 'plain.pth'
    result = export_backbone(run(), target, layout='torchvision')
    written = torch.load(target)
    assert set(written) == set(stripped(states(CIFAR)))
    assert result.differences == {'ResNet_CIFAR': 0.0}
    assert 'ResNet_CIFAR' in result.note


@pytest.mark.parametrize(
    'config, layout, told',
    [
        (
            dict(MOBILE, widen_factor=0.9),
            *('timm', 'no counterpart mobilenetv2_090 there'),
        ),
        (EFFICIENT, 'torchvision', 'pads as TensorFlow.* has tf_efficient'),
        (
            dict(EFFICIENT, conv_cfg=None),
            *('torchvision', 'eps=0.001, efficientnet_b0 there with 1e-05'),
        ),
        (
            dict(EFFICIENT, norm_cfg=dict(type='BN', eps=1e-5)),
            *('timm', 'eps=1e-05, tf_efficientnet_b0 there with 0.001'),
        ),
        (
            dict(EFFICIENT, arch='es'),
            *('timm', 'other blocks: .* has an EdgeResidual'),
        ),
        (
            dict(type='TIMMBackbone', model_name='resnet10t'),
            *('torchvision', "regnety_006, say.*use layout='timm'"),
        ),
        (dict(type='ShuffleNetV2'), 'torchvision', 'ShuffleNetV2'),
        (dict(type='ResNetV1d', depth=18), 'timm', 'ResNetV1d'),
        (dict(RESNET, deep_stem=True), 'torchvision', 'deep stem'),
        (dict(RESNET, depth=50, style='caffe'), 'timm', 'strides'),
    ],
)
def test_others_are_refused(run, tmp_path, config, layout, told):
    target = tmp_path / 'plain.pth'
    with pytest.raises(ValueError, match=told) as info:
        export_backbone(run(config), target, layout=layout)
    assert 'torchvision: ResNet, ResNet_CIFAR, MobileNetV2' in str(info.value)
    assert not target.exists()


def test_a_layout_that_cannot_be_proven_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match='pip install timm'):
        export_backbone(run(MOBILE), tmp_path / 'x.pth', layout='timm')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['run.pth']


@pytest.mark.parametrize('layout', ['mm', 'torchvision'])
def test_a_wrong_conversion_is_noticed(run, tmp_path, layout, monkeypatch):
    convert = exporting.convert

    def swap(*args):
        written = convert(*args)
        keys = [k for k in written if k.endswith('layer1.0.bn1.weight')]
        other = keys[0].replace('bn1', 'bn2')
        written[keys[0]], written[other] = written[other], written[keys[0]]
        return written

    monkeypatch.setattr(exporting, 'convert', swap)
    with pytest.raises(ValueError, match='differ'):
        export_backbone(run(RESNET), tmp_path / 'x.pth', layout=layout)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['run.pth']


# --- refusals -------------------------------------------------------------


def test_files_without_the_part_are_refused(run, tmp_path):
    target = tmp_path / 'x.pth'
    with pytest.raises(CheckpointError, match='its parts are student'):
        export_backbone(run(), target, 'momentum')
    with pytest.raises(CheckpointError, match=r"no keys backbone\.\*.*'fc'"):
        export_backbone(run(state={'fc.weight': torch.ones(2)}), target)
    named = torch.tensor(list(b'old/teacher.pth\0\0'), dtype=torch.uint8)
    source = run(state={'teacher.checkpoint_path': named})
    with pytest.raises(CheckpointError, match='of old/teacher.pth$'):
        export_backbone(source, target, 'teacher')
    assert not target.exists()


def test_a_file_that_does_not_fit_its_config_is_refused(run, tmp_path):
    source = run(state=states(dict(CIFAR, base_channels=4)))
    with pytest.raises(ValueError, match='layer1.0.conv1.weight'):
        export_backbone(source, tmp_path / 'x.pth')


def test_nothing_is_replaced_without_being_told_to(run, tmp_path):
    source, target = run(), tmp_path / 'x.pth'
    target.write_text('mine')
    with pytest.raises(FileExistsError, match='--force'):
        export_backbone(source, target)
    assert target.read_text() == 'mine'
    export_backbone(source, target, force=True)
    assert 'state_dict' in load_checkpoint(target)
    with pytest.raises(ValueError, match='source itself'):
        export_backbone(source, source, force=True)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        export_backbone(source, tmp_path / 'nowhere' / 'x.pth')


def test_a_failed_write_leaves_the_old_file(run, tmp_path, monkeypatch):
    source, target = run(), tmp_path / 'x.pth'
    export_backbone(source, target)
    before = target.read_bytes()

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
        export_backbone(source, target, force=True)
    assert target.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ['run.pth', 'x.pth']


def test_the_config_inside_a_file_is_read_and_never_run(run, tmp_path):
    trace = tmp_path / 'ran'
    call = f"open({str(trace)!r}, 'w')"
    target = tmp_path / 'x.pth'
    # beside the model: not even looked at
    text = f'import os\nx = {call}\nmodel = dict(backbone={CIFAR!r})'
    export_backbone(run(text=text), target)
    for text in (
        f'model = dict(backbone=dict(type={call}))',
        'model = dict(backbone=dict(type=',
        'model = dict(**other)',
    ):
        with pytest.raises(ValueError, match='--config'):
            export_backbone(run(text=text), target, force=True)
    assert not trace.exists()


def test_config_text_is_read_as_mmengine_reads_it():
    cfg = dict(
        default_scope='mmpretrain',
        model=dict(
            backbone=dict(a=-1.5, b=(1, (2,)), c=[None, True], d={1: 'x'})
        ),
    )
    assert read_config(Config(cfg).pretty_text) == cfg


def test_a_config_can_be_given(run, tmp_path):
    source, target = run(text=''), tmp_path / 'x.pth'
    with pytest.raises(ValueError, match='--config'):
        export_backbone(source, target)
    config = tmp_path / 'config.py'
    config.write_text(f'model = dict(backbone={CIFAR!r})\n')
    assert export_backbone(source, target, config=config).keys


# --- the tool, and a real run ---------------------------------------------


@pytest.fixture
def tool():
    path = ROOT / 'tools' / 'model_converters' / 'extract_backbone.py'
    spec = importlib.util.spec_from_file_location('extract_backbone', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_the_tool_says_what_it_compared(run, tmp_path, tool, capsys):
    source, target = str(run(RESNET)), str(tmp_path / 'x.pth')
    tool([source, target, '--layout', 'torchvision'])
    text = capsys.readouterr().out
    assert f'{target}: 120 tensors, every one used' in text
    assert 'max abs difference of features, ResNet: 0\n' in text
    assert 'max abs difference of features, torchvision ResNet: ' in text
    with pytest.raises(SystemExit) as info:
        tool([source, target])
    assert info.value.code == 1
    assert '--force' in capsys.readouterr().err


def test_the_help_names_what_is_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool(['--help'])
    text = ' '.join(capsys.readouterr().out.split())
    for kinds in exporting.LAYOUTS.values():
        assert kinds in text
    assert 'EfficientNet that pads as TensorFlow' in text
    assert "RegNetY-600MF is timm's alone" in text


class ExportViews(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=list(torch.randn(2, 3, 32, 32)), data_samples=0)


def test_a_real_run_can_be_exported(tmp_path):
    kinds = (DropoutProjectionNeck, OnlineClusteringHead, Distiller, Teacher)
    neck, head, algorithm, teacher = (kind.__name__ for kind in kinds)
    neck = dict(type=neck, in_channels=64, hid_channels=8, out_channels=4)
    DATASETS.register_module(module=ExportViews, force=True)
    cfg = dict(
        model=dict(
            type=algorithm,
            backbone=CIFAR,
            neck=neck,
            teacher=dict(
                type=teacher, backbone=CIFAR, neck=neck, frozen=False
            ),
            momentum=0.9,
            heads=dict(c=dict(type=head, embed_dim=4, num_prototypes=5)),
        ),
        work_dir=str(tmp_path / 'work'),
        train_dataloader=dict(
            dataset=dict(type='ExportViews'),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
        default_scope='mmpretrain',
        log_level='ERROR',
        experiment_name=f'export-{tmp_path.name}',
    )
    runner = Runner.from_cfg(Config(cfg))
    runner.train()
    DATASETS.module_dict.pop('ExportViews')
    for part, prefix in exporting.PARTS.items():
        target = tmp_path / f'{part}.pth'
        export_backbone(tmp_path / 'work' / 'epoch_1.pth', target, part)
        written = load_checkpoint(target)['state_dict']
        trained = runner.model.get_submodule(prefix[:-1]).state_dict()
        assert len(written) == len(trained) > 100
        for key, value in trained.items():
            assert torch.equal(written[f'backbone.{key}'], value)


@pytest.mark.parametrize('features_only', [True, False])
def test_what_came_from_timm_goes_back(run, tmp_path, features_only):
    timm = pytest.importorskip('timm')
    config = dict(
        type='TIMMBackbone',
        model_name='resnet10t',
        features_only=features_only,
    )
    target = tmp_path / 'timm.pth'
    result = export_backbone(run(config), target, layout='timm')
    assert list(result.differences.values()) == [0.0]
    model = timm.create_model(
        'resnet10t', features_only=features_only, num_classes=0
    ).eval()
    written = load_checkpoint(target)
    assert set(written) == set(model.state_dict())
    model.load_state_dict(written)
    with torch.no_grad():
        output = (
            model(images())
            if features_only
            else (model.forward_features(images()),)
        )
    wanted = features(config, stripped(states(config)))
    torch.testing.assert_close(output[-1], wanted)
