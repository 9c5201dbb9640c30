"""Every teacher fragment fits its published file, and composes."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.apis.config import load_config, register_modules
from mmssd.models.utils.checkpoint import CheckpointError
from mmssd.models.utils.layouts import find_weights, map_weights

ROOT = Path(__file__).resolve().parents[2] / 'configs/_base_'
FRAGMENTS = sorted((ROOT / 'teachers').glob('*.py'))
RGB = [123.675, 116.28, 103.53]


def name_of(path):
    return path.stem.replace('-', '_')


def ids(path):
    return path.stem


@pytest.fixture
def meta(monkeypatch):
    """Build without memory; what a constructor reads stays real."""
    linspace = torch.linspace  # transformers read their drop path rates
    monkeypatch.setattr(
        torch,
        'linspace',
        lambda *args, **kwargs: linspace(*args, **{'device': 'cpu', **kwargs}),
    )
    with torch.device('meta'):
        yield


# --- the published files, without their numbers -----------------------------


def resnet(depth, width=1):
    """Keys of torchvision; every channel but the image's times the width."""
    state = torchvision.models.get_model(f'resnet{depth}').state_dict()
    wide = {}
    for key, value in state.items():
        if key.startswith('fc.'):
            continue
        shape = [
            n * width if axis < 2 and n != 3 else n
            for axis, n in enumerate(value.shape)
        ]
        if value.dim() == 4:  # kernel sides, too, are the third and fourth
            shape[2:] = value.shape[2:]
        wide[key] = torch.empty(shape)
    return wide


def head(*widths, norm=False):
    layers, index = {}, 0
    for number, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        layers[str(index)] = nn.Linear(a, b)
        if norm and number < len(widths) - 2:
            layers[str(index + 1)] = nn.BatchNorm1d(b)
        index += 3 if norm else 2
    return {
        f'{name}.{key}': value
        for name, layer in layers.items()
        for key, value in layer.state_dict().items()
    }


def within(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def moco(depth):
    return {
        **within('module.encoder_q.', resnet(depth)),
        **within('module.encoder_q.fc.', head(2048, 2048, 128)),
    }


def swav(width, hidden, norm=True):
    return {
        **within('module.', resnet(50, width)),
        **within(
            'module.projection_head.',
            head(2048 * width, hidden, 128, norm=norm),
        ),
        'module.prototypes.weight': torch.empty(3000, 128),
    }


def dino(model, width):
    state = {
        **within(
            'backbone.', timm.create_model(model, num_classes=0).state_dict()
        ),
        **within('head.mlp.', head(width, 2048, 2048, 256)),
    }
    return dict(teacher=state, student=within('module.', state))


def simclr():
    start = 'module.module.module.'
    return {
        **within(start, resnet(50)),
        **within(f'{start}fc.', head(2048, 2048, 128, norm=True)),
    }


def moco_v1():
    return {
        **within('module.encoder_q.', resnet(50)),
        'module.encoder_q.fc.weight': torch.empty(128, 2048),
        'module.encoder_q.fc.bias': torch.empty(128),
    }


FILES = {
    'moco-v1_resnet50': moco_v1,
    'moco-v2_resnet50': lambda: moco(50),
    'moco-v2_resnet101': lambda: moco(101),
    'moco-v2_resnet152': lambda: moco(152),
    'swav_resnet50': lambda: swav(1, 2048),
    'swav_resnet50w2': lambda: swav(2, 8192),
    'swav_resnet50w4': lambda: swav(4, 8192),
    'swav_resnet50w5': lambda: swav(5, 10240, norm=False),
    'simclr_resnet50': simclr,
    'dino_vit-small-p16': lambda: dino('vit_small_patch16_224', 384),
    'dino_vit-base-p16': lambda: dino('vit_base_patch16_224', 768),
}


def build(path):
    config = Config.fromfile(path)[name_of(path)]
    register_modules('mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


@pytest.mark.parametrize('path', FRAGMENTS, ids=ids)
def test_fits_the_published_file(path, meta):
    teacher = build(path)
    content = FILES[path.stem.rpartition('_')[0]]()
    content = content if 'teacher' in content else dict(state_dict=content)
    weights = find_weights(content)
    for layout in (teacher.layout, 'auto'):
        parts, found = map_weights(
            weights, layout, teacher.backbone, teacher.neck
        )
        assert found == teacher.layout
        own = {
            f'{part}.{key}': value.shape
            for part in ('backbone', 'neck')
            for key, value in getattr(teacher, part).state_dict().items()
        }
        assert {key: value.shape for key, value in parts.items()} == own
    assert teacher.frozen and teacher.checkpoint.startswith('checkpoints/')
    assert list(teacher.input.mean) == RGB


def test_every_architecture_has_a_fragment():
    assert {path.stem.rpartition('_')[0] for path in FRAGMENTS} == set(FILES)


def test_the_wrong_fragment(meta):
    teacher = build(ROOT / 'teachers/moco-v2_resnet50_200e.py')
    with pytest.raises(CheckpointError, match="looks like layout='swav'"):
        map_weights(
            find_weights(swav(1, 2048)),
            teacher.layout,
            teacher.backbone,
            teacher.neck,
        )
    wide = build(ROOT / 'teachers/swav_resnet50w2_400e.py')
    with pytest.raises(CheckpointError, match='projector has other layers'):
        map_weights(
            find_weights(swav(5, 10240, norm=False)),
            'swav',
            wide.backbone,
            wide.neck,
        )


# --- composition ------------------------------------------------------------

STUDENT = """
model = dict(
    type='Distiller',
    backbone=dict(type='ResNet', depth=18),
    neck=dict(type='MoCoV2Neck', in_channels=512, hid_channels=512,
              out_channels=128),
    heads=dict(regression=dict(type='EmbeddingHead')),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmssd'])
"""


def test_a_leaf_takes_a_teacher_and_its_child_another(tmp_path, meta):
    """Fragments have names of their own, so bases never collide."""
    teachers = ROOT / 'teachers'
    (tmp_path / 'student.py').write_text(STUDENT)
    (tmp_path / 'leaf.py').write_text(
        f"_base_ = ['student.py', '{teachers}/moco-v2_resnet50_200e.py']\n"
        'model = dict(teacher=_base_.moco_v2_resnet50_200e)\n'
    )
    (tmp_path / 'child.py').write_text(
        f"_base_ = ['leaf.py', '{teachers}/swav_resnet50w2_400e.py']\n"
        'model = dict(\n'
        '    teacher=dict(_delete_=True, **_base_.swav_resnet50w2_400e))\n'
    )
    built = {}
    for name in ('leaf', 'child'):
        config = load_config(tmp_path / f'{name}.py')
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built[name] = MODELS.build(config.model).teacher
    assert built['leaf'].layout == 'moco'
    # the same statistics as the student's: nothing to do
    assert built['leaf'].input_scale is None
    assert built['child'].layout == 'swav'
    assert built['child'].backbone.conv1.out_channels == 128
    assert built['child'].checkpoint.endswith('RN50w2_400ep_pretrain.pth.tar')
    assert built['child'].input_scale is not None  # red, by 0.228


def test_any_network_of_timm_and_of_mmpretrain(tmp_path, meta):
    for backbone in (
        dict(type='TIMMBackbone', model_name='regnety_006'),
        dict(type='TIMMBackbone', model_name='resnet50'),
        dict(type='ConvNeXt', arch='tiny'),
        dict(type='XCiT', embed_dims=192, depth=2, num_heads=4),
    ):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            teacher = MODELS.build(
                dict(
                    type='Teacher',
                    backbone=backbone,
                    checkpoint='checkpoints/file.pth',
                    layout='auto',
                )
            )
        own = teacher.backbone.state_dict()
        timm_file = {k.removeprefix('timm_model.'): v for k, v in own.items()}
        content = (
            timm_file
            if backbone['type'] == 'TIMMBackbone'
            else within('backbone.', own)
        )
        parts, _ = map_weights(find_weights(content), 'auto', teacher.backbone)
        assert set(parts) == set(within('backbone.', own))
