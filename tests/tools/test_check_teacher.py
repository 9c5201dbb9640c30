"""The report on a teacher, and the sentences where it cannot be made."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models.backbones import ResNet
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/analysis/check_teacher.py'
CONFIG = """
custom_imports = dict(imports=['mmssd'])
default_scope = 'mmpretrain'
resnet = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
model = dict(
    type='Distiller',
    backbone=resnet,
    neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=6,
              out_channels=5),
    teacher=dict(
        backbone=resnet,
        neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=6,
                  out_channels=5),
        checkpoint={checkpoint!r},
        layout='moco',
        mean=[127.5, 127.5, 127.5],
        std=[63.75, 63.75, 63.75],
    ),
    heads=dict(regression=dict(type='EmbeddingHead')),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)
crop = [dict(type='LoadImage'), dict(type='RandomResizedCrop', scale=16)]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='CustomDataset',
        data_prefix={train!r},
        pipeline=[
            dict(type='MultiView', num_views=[2], transforms=[crop]),
            dict(type='PackInputs'),
        ],
    ),
)
"""


def tool():
    spec = importlib.util.spec_from_file_location('check_teacher', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_images(folder, number=4):
    """Two classes: bright left halves, and bright upper halves."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(('left', 'upper')):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            pixels = generator.integers(0, 120, (20, 20, 3)).astype(np.uint8)
            if label:
                pixels[:10] += 130
            else:
                pixels[:, :10] += 130
            Image.fromarray(pixels).save(folder / name / f'{index}.png')


def moco_file(path, change=lambda state: None):
    """A published file of a network that keeps images apart."""
    torch.manual_seed(1)
    backbone = ResNet(
        18, stem_channels=8, base_channels=8, zero_init_residual=False
    )
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        backbone.train()
        backbone(torch.randn(64, 3, 32, 32))
    head = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 5))
    nn.init.normal_(head[0].weight)
    nn.init.normal_(head[2].weight)
    state = {
        **{f'encoder_q.{k}': v for k, v in backbone.state_dict().items()},
        **{f'encoder_q.fc.{k}': v for k, v in head.state_dict().items()},
        'queue': torch.ones(5, 3),
    }
    change(state)
    torch.save(
        dict(state_dict={f'module.{k}': v for k, v in state.items()}), path
    )


@pytest.fixture
def place(tmp_path):
    write_images(tmp_path / 'images/train')
    write_images(tmp_path / 'images/val')
    moco_file(tmp_path / 'moco.pth')
    write_config(tmp_path)
    return tmp_path


def write_config(folder, extra='', train='images/train'):
    text = CONFIG.format(
        checkpoint=str(folder / 'moco.pth'), train=str(folder / train)
    )
    (folder / 'config.py').write_text(text + extra)


def run(folder, *args):
    return tool().main(
        [str(folder / 'config.py'), '--device', 'cpu', *map(str, args)]
    )


def test_a_healthy_teacher(place, capsys):
    code = run(place, '--out', place / 'report.json')
    said = capsys.readouterr().out
    report = json.loads((place / 'report.json').read_text())
    assert report['findings'] == [] and code == 0, said
    assert 'nothing wrong was found' in said
    # 20 convolutions, 20 batch norms of five tensors
    assert 'layout moco; keys matched: backbone 120, neck 4; ' in said
    assert 'not used: queue.* (1)' in said
    assert '16 x 16 pixels' in said and 'of 8 images' in said
    assert report['file']['checkpoint'] == str(place / 'moco.pth')
    assert report['input']['normalised_by'] == 'its own mean and std'
    assert report['features']['width'] == 64
    assert report['embeddings']['width'] == 5
    assert report['knn_top1'] is None


def test_the_input_is_the_teachers_own(place):
    """Even grey of 127.5 is zero for the teacher, not for the student."""
    for path in (place / 'images/train').rglob('*.png'):
        pixels = np.full((20, 20, 3), 127, np.uint8)
        pixels[:, 10:] = 128
        Image.fromarray(pixels).save(path)
    run(place, '--out', place / 'report.json')
    seen = json.loads((place / 'report.json').read_text())['input']
    assert max(map(abs, seen['mean'])) < 0.01
    assert max(seen['std']) < 0.01


def test_knn_on_a_folder(place, capsys):
    run(
        place,
        *('--labelled', place / 'images', '--size', 16, '--k', 1),
        *('--out', place / 'report.json'),
    )
    report = json.loads((place / 'report.json').read_text())
    assert report['knn_top1'] == 100  # the folders hold the same images
    assert 'k-NN: 100.00 % top-1' in capsys.readouterr().out


def test_folders_that_number_classes_differently(place, capsys):
    (place / 'images/val/another').mkdir()
    with pytest.raises(SystemExit):
        run(place, *('--labelled', place / 'images', '--size', 16, '--k', 1))
    message = capsys.readouterr().err
    assert "label 0 means 'left' in the one and 'another'" in message


def test_knn_on_the_sets_of_the_config(place):
    pipeline = (
        "[dict(type='LoadImage'), dict(type='Resize', scale=16), "
        "dict(type='PackInputs')]"
    )
    sets = '\n'.join(
        f"{name} = dict(type='CustomDataset', pipeline={pipeline}, "
        f"data_prefix='{place}/images/{split}')"
        for name, split in (('bank', 'train'), ('query', 'val'))
    )
    write_config(place, extra=sets)
    for args, wanted in (((), 100), (['--no-knn'], None)):
        run(place, '--k', 1, '--out', place / 'report.json', *args)
        report = json.loads((place / 'report.json').read_text())
        assert report['knn_top1'] == wanted


def flatten(state):
    state['encoder_q.fc.2.weight'] *= 1e-4
    state['encoder_q.fc.2.bias'] += 1


def kill(state):
    state['encoder_q.layer4.1.bn2.weight'] *= 0
    state['encoder_q.layer4.1.bn2.bias'] -= 1e4


def poison(state):
    state['encoder_q.layer1.0.bn1.weight'][0] = float('nan')


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (flatten, 'WARNING: collapsed teacher: embeddings of different'),
        (kill, 'WARNING: dead teacher: features of some images are all'),
        (poison, 'WARNING: dead teacher: its features are not finite'),
    ],
)
def test_a_teacher_not_fit_to_teach(place, capsys, change, said):
    moco_file(place / 'moco.pth', change)
    assert run(place) == 1
    out = capsys.readouterr().out
    assert said in out and 'nothing wrong' not in out


def test_an_input_of_another_normalisation(place, capsys):
    code = run(place, '--cfg-options', 'model.teacher.std=[1.0,1.0,1.0]')
    assert code == 1
    assert 'check teacher.mean, teacher.std' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('args', 'said'),
    [
        (['--labelled', 'none'], 'none/train/<class>/ not found'),
        (['--knn'], 'the config names no labelled images'),
        (['--images', 1], 'images=1, batch_size=64'),
        (
            ['--cfg-options', 'train_dataloader.dataset.data_prefix=none'],
            'the training data (CustomDataset) cannot be read',
        ),
        (
            ['--cfg-options', 'model.teacher.checkpoint=none.pth'],
            'checkpoint none.pth not found',
        ),
        (
            ['--cfg-options', 'model.teacher.layout=swav'],
            "it looks like layout='moco'",
        ),
        (
            [
                '--cfg-options',
                'model.teacher.frozen=False',
                'model.teacher.checkpoint=None',
            ],
            'nothing to check before it',
        ),
        (['--cfg-options', 'model.teacher=None'], 'has no model.teacher'),
    ],
)
def test_refused_in_one_sentence(place, args, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run(place, *args)
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith('error: ') and said in message, message


def test_a_labelled_set_that_is_missing(place, capsys):
    sets = "bank = query = dict(type='CustomDataset', data_prefix='nowhere')"
    write_config(place, extra=sets)
    with pytest.raises(SystemExit):
        run(place)
    message = capsys.readouterr().err
    assert 'the labelled bank set (CustomDataset) cannot be read' in message
    assert '--labelled FOLDER' in message
