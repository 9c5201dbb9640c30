"""The grid that the tools share, and the images that go into it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmssd.visualization.grad_cam import Probe
from mmssd.visualization.networks import (
    class_names,
    read_images,
    stack_images,
    take_images,
)
from mmssd.visualization.pictures import _logarithmic, draw_grid

ROOT = Path(__file__).parents[2]
GREY = np.full((8, 8, 3), 128, np.uint8)


def load_tool(name):
    path = ROOT / f'tools/analysis/{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def colours_of(path):
    pixels = np.asarray(Image.open(path).convert('RGB'))
    return {tuple(c) for c in pixels.reshape(-1, 3)}


def test_grid_with_all_its_parts(tmp_path):
    wide, high = np.zeros((4, 8, 3), np.uint8), np.zeros((8, 4, 3), np.uint8)
    path = tmp_path / 'new/grid.png'
    draw_grid(
        [[GREY, wide, None], [high, GREY, GREY]],
        path,
        ['a', 'b', 'c'],
        ['one', 'two'],
        [['x', 'y\nz', ''], ['', '', '']],
        title='title',
        groups=[('left', 1), ('right', 2)],
        frames=[[None, '#ff0000', None], [None, None, '#0000ff']],
        legend={'bad': '#ff0000', 'good': '#0000ff'},
    )
    found = colours_of(path)
    assert {(255, 0, 0), (0, 0, 255), (128, 128, 128)} <= found
    width, height = Image.open(path).size
    assert width > 700 and height > 600
    draw_grid([[GREY]], path, ['a'], ['one'])
    assert (255, 0, 0) not in colours_of(path)


def test_labels_of_logarithmic_axes():
    values = (0.01, 0.2, 0.3, 1, 4, 5, 9, 1e7)
    wanted = ['0.01', '0.2', '', '1', '', '5', '', '1e+07']
    assert [_logarithmic(value) for value in values] == wanted


def test_grid_errors(tmp_path):
    with pytest.raises(ValueError, match='no images'):
        draw_grid([], tmp_path / 'x.png', ['a'], [])
    with pytest.raises(ValueError, match=r'groups of \[2\] for 1 columns'):
        draw_grid(
            [[GREY]], tmp_path / 'x.png', ['a'], ['one'], groups=[('g', 2)]
        )


@pytest.fixture
def files(tmp_path):
    """A red and a blue picture in each of two folders."""
    paths = []
    for folder in ('bank', 'query'):
        for number, colour in enumerate(((200, 0, 0), (0, 0, 200))):
            path = tmp_path / folder / f'class{number}' / f'{number}.png'
            path.parent.mkdir(parents=True)
            Image.new('RGB', (40, 30 + 10 * number), colour).save(path)
            paths.append(str(path))
    return paths


@pytest.fixture
def run(tmp_path, files):
    """Config and checkpoint of a tiny student."""
    pipeline = [
        dict(type='LoadImage'),
        dict(type='Resize', scale=64),
        dict(type='PackInputs'),
    ]
    sets = {
        name: dict(
            type='CustomDataset',
            data_root=str(tmp_path / name),
            pipeline=pipeline,
        )
        for name in ('bank', 'query')
    }
    config = Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['mmssd']),
            model=dict(
                type='Distiller',
                backbone=dict(
                    type='ResNet', depth=18, stem_channels=4, base_channels=4
                ),
                neck=dict(type='MLPNeck', in_channels=32, out_channels=8),
                teacher=dict(
                    backbone=dict(
                        type='ResNet',
                        depth=18,
                        stem_channels=4,
                        base_channels=4,
                    ),
                    neck=dict(type='MLPNeck', in_channels=32, out_channels=8),
                    checkpoint='random',
                ),
                heads=dict(embedding=dict(type='EmbeddingHead')),
                data_preprocessor=dict(
                    mean=[128] * 3, std=[64] * 3, to_rgb=True
                ),
            ),
            **sets,
        )
    )
    config.dump(tmp_path / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'run.pth')
    return config, str(tmp_path / 'config.py'), str(tmp_path / 'run.pth')


def test_images_by_path_and_by_index(run, files):
    config = run[0]
    images = read_images(config, files[:2])
    assert images[0].shape == (3, 64, 64)
    assert images[0][:, 0, 0].tolist() == [0, 0, 200]  # BGR, for to_rgb
    bare = Config(dict(default_scope='mmpretrain'))
    assert read_images(bare, files[:1])[0].shape == (3, 224, 224)
    found = take_images(config, None, [1])
    assert found['image 1'][:, 0, 0].tolist() == [200, 0, 0]
    # of equal names, the paths
    assert list(take_images(config, [files[0], files[2]], None)) == [
        files[0],
        files[2],
    ]
    with pytest.raises(ValueError, match='--queries 2: there are 2 images'):
        take_images(config, None, [2])
    with pytest.raises(FileNotFoundError, match='there is no image x.png'):
        take_images(config, ['x.png'], None)
    with pytest.raises(ValueError, match='different sizes'):
        stack_images(dict(a=torch.ones(3, 4, 4), b=torch.ones(3, 4, 5)))


def test_neighbours_tool(run, tmp_path, capsys, monkeypatch):
    tool = load_tool('neighbours')
    drawn = {}
    monkeypatch.setattr(
        tool,
        'draw_grid',
        lambda *args, **kwargs: drawn.update(args=args, **kwargs),
    )
    _, config, checkpoint = run
    tool.main(
        [
            *('--out', str(tmp_path / 'n.png'), '--k', '2'),
            *('--network', 'student', config, checkpoint),
            *('--network', 'teacher', config, checkpoint, 'teacher'),
        ]
    )
    rows, _, columns, names, captions = drawn['args']
    assert columns == ['query', '1', '2', '1', '2']
    assert names == ['image 0', 'image 1']
    assert drawn['groups'] == [('', 1), ('student', 2), ('teacher', 2)]
    # one colour each: the same image is the nearest, at no distance
    red, blue = rows
    for block in (1, 3):
        assert red[block][0, 0].tolist() == [200, 0, 0]
        assert red[block + 1][0, 0].tolist() == [0, 0, 200]
        assert captions[0][block] == 'class0\n0.00'
        assert captions[0][block + 1].startswith('class1\n')
    assert blue[0][0, 0].tolist() == [0, 0, 200]
    assert drawn['frames'][0] == [None, *('tab:blue', 'tab:orange') * 2]

    for wrong, message in (
        (['--queries', '5'], '--queries 5: there are 2 images'),
        (['--k', '3'], 'k=3: must be between 1 and'),
        (['--network', 'x', config], 'give NAME CONFIG CHECKPOINT'),
        (['--network', 'x', config, 'no.pth'], 'no checkpoint no.pth'),
        (['--network', 'x', config, checkpoint, 'tutor'], "part='tutor'"),
    ):
        with pytest.raises(SystemExit):
            tool.main(
                [
                    *('--network', 'a', config, checkpoint),
                    *('--out', str(tmp_path / 'n.png')),
                    *wrong,
                ]
            )
        assert message in capsys.readouterr().err


def test_grad_cam_of_networks_without_classes(run, tmp_path, files):
    pytest.importorskip('pytorch_grad_cam')
    _, config, checkpoint = run
    out = tmp_path / 'cam.png'
    load_tool('grad_cam').main(
        [
            *('--network', 'student', config, checkpoint),
            *('--network', 'teacher', config, checkpoint, 'teacher'),
            *('--network', 'untrained', config, 'random'),
            *('--queries', '0', '1', '--out', str(out)),
        ]
    )
    width, height = Image.open(out).size
    assert width > 1.5 * height
    # an untrained classifier has one fitted, where there are labelled images
    whole = Config.fromfile(config)
    whole.model = dict(
        type='ImageClassifier',
        backbone=whole.model.backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=7, in_channels=32),
        data_preprocessor=whole.model.data_preprocessor,
    )
    whole.dump(tmp_path / 'classifier.py')
    _, model, names = load_tool('grad_cam').read_classifier(
        ['untrained', str(tmp_path / 'classifier.py'), 'random']
    )
    assert isinstance(model, Probe) and list(names) == ['class0', 'class1']
    assert model.weight.shape == (2, 32)


def test_attention_tool(tmp_path, files, capsys):
    config = Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['mmssd']),
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='VisionTransformer',
                    arch=dict(
                        embed_dims=12,
                        num_layers=2,
                        num_heads=3,
                        feedforward_channels=24,
                    ),
                    img_size=32,
                    patch_size=8,
                ),
                data_preprocessor=dict(mean=[128] * 3, std=[64] * 3),
            ),
            test_dataloader=dict(
                dataset=dict(
                    pipeline=[
                        dict(type='LoadImage', channel_order='rgb'),
                        dict(type='Resize', scale=32),
                        dict(type='PackInputs'),
                    ]
                )
            ),
        )
    )
    config.dump(tmp_path / 'vit.py')
    tool, out = load_tool('attention'), tmp_path / 'attention.png'
    base = ['--network', 'vit', str(tmp_path / 'vit.py'), 'random']
    base += ['--out', str(out), '--images', *files[:2]]
    tool.main(base)
    width, height = Image.open(out).size
    assert width > 1.5 * height  # image, mean, three heads; two rows
    with pytest.raises(SystemExit):
        tool.main([*base, '--layer', '2'])
    assert 'layer 2' in capsys.readouterr().err


def test_names_of_classes():
    assert class_names(object()) is None
    assert class_names(type('D', (), dict(metainfo=dict(classes=('a',))))) == (
        'a',
    )
