"""The views that are drawn are those that are fed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmssd.apis.config import load_config
from mmssd.datasets import ArrayDataset
from mmssd.datasets.seeded_views import SeededViews
from mmssd.visualization.networks import denormalise
from mmssd.visualization.views import make_views, view_sizes

ROOT = Path(__file__).parents[2]
MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis/views.py'
    spec = importlib.util.spec_from_file_location('views', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photo(tmp_path):
    """A picture, red on the left and blue on the right."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, :40, 0] = 200
    pixels[:, 40:, 2] = 100
    path = tmp_path / 'photo.png'
    Image.fromarray(pixels).save(path)
    return path, pixels


def still(config):
    """Take all chance out of the views but their place."""
    crop = dict(type='CenterCrop', crop_size=32)
    small = dict(type='CenterCrop', crop_size=16)
    config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImage'),
        dict(type='MultiView', num_views=[2, 1], transforms=[[crop], [small]]),
        dict(type='PackInputs'),
    ]
    return config


def test_pixels_of_the_loader_come_back(photo):
    path, pixels = photo
    config = still(
        load_config(
            ROOT / 'configs/oss/swav_resnet18_8xb32-coslr-200e_in1k.py'
        )
    )
    views = make_views(config, [str(path)])
    # RGB, though mmcv's transforms work on BGR
    np.testing.assert_array_equal(views.sources[0], pixels)
    assert [v.shape for v in views.pictures] == [
        (1, 32, 32, 3),
        (1, 32, 32, 3),
        (1, 16, 16, 3),
    ]
    np.testing.assert_array_equal(views.pictures[0][0], pixels[14:46, 24:56])
    np.testing.assert_array_equal(views.pictures[2][0], pixels[22:38, 32:48])
    # what the network sees is normalised
    red = (200 - MEAN[0]) / STD[0]
    assert views.inputs[0][0, 0, 0, 0].item() == pytest.approx(red)
    assert views.labels == [
        'view 1, global\n32 x 32 px\nto student',
        'view 2, global\n32 x 32 px\nto student',
        'view 3, small\n16 x 16 px\nto student',
    ]


def test_views_of_the_device():
    images = np.random.randint(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    config = load_config(next((ROOT / 'configs/demo').glob('oss_*.py')))
    config.train_dataloader.dataset = dict(
        type=ArrayDataset,
        images=images,
        labels=np.arange(3),
        pipeline=[dict(type='PackImage')],
    )
    still = dict(flip=0.0, jitter_prob=0.0, grey_prob=0.0, blur_prob=0.0)
    config.model.data_preprocessor.views = [
        dict(num=2, size=24, scale=(1, 1), ratio=(1, 1), **still),
        dict(num=1, size=12, scale=(1, 1), ratio=(1, 1), **still),
    ]
    views = make_views(config, indices=[2, 0])
    np.testing.assert_array_equal(views.sources[0], images[2])
    # the whole image at its own size is the image
    np.testing.assert_array_equal(views.pictures[0], images[[2, 0]])
    np.testing.assert_array_equal(views.pictures[1], images[[2, 0]])
    assert views.pictures[2].shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match='--indices 3: there are 3 images'):
        make_views(config, indices=[3])


def test_views_that_are_drawn_in_advance():
    """They are those of the data set, whatever the seed of the picture."""
    images = np.random.randint(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    crop = dict(type='RandomResizedCrop', scale=12)
    inner = dict(
        type=ArrayDataset,
        images=images,
        labels=np.arange(3),
        pipeline=[
            dict(type='MultiView', num_views=[2], transforms=[[crop]]),
            dict(type='PackInputs'),
        ],
    )
    config = load_config(
        ROOT / 'configs/oss/swav_resnet18_8xb32-coslr-200e_in1k.py'
    )
    outer = dict(type='SeededViews', dataset=inner, draws=4, seed=5)
    config.train_dataloader.dataset = outer
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = SeededViews(inner, draws=4, seed=5)
    shown = set()
    for seed in range(6):
        views = make_views(config, indices=[2, 0], seed=seed)
        for row, index in enumerate((2, 0)):
            note = views.notes[row]
            draw = int(note.removeprefix('fixed draw ')[0]) - 1
            assert note == f'fixed draw {draw + 1} of 4'
            shown.add((index, draw))
            expected = dataset.view(index, draw)['inputs']
            for view, pixels in zip(views.pictures, expected, strict=True):
                rgb = pixels.permute(1, 2, 0).numpy()[..., ::-1]
                np.testing.assert_array_equal(view[row], rgb)
    assert len(shown) > 3


def test_views_of_the_device_that_are_drawn_in_advance():
    images = np.random.randint(0, 256, (3, 24, 24, 3), dtype=np.uint8)
    config = load_config(next((ROOT / 'configs/demo').glob('oss_*.py')))
    inner = dict(
        type=ArrayDataset,
        images=images,
        labels=np.arange(3),
        pipeline=[dict(type='PackImage')],
    )
    config.train_dataloader.dataset = inner
    one, two = (make_views(config, indices=[1], seed=s) for s in (1, 2))
    assert not torch.equal(one.inputs[0], two.inputs[0])
    outer = dict(type='SeededViews', dataset=inner, draws=1)
    config.train_dataloader.dataset = outer
    one, two = (make_views(config, indices=[1], seed=s) for s in (1, 2))
    for a, b in zip(one.inputs, two.inputs, strict=True):
        assert torch.equal(a, b)
    assert one.notes == ['fixed draw 1 of 1']
    # another image, other views
    other = make_views(config, indices=[2], seed=1)
    assert not torch.equal(one.inputs[0], other.inputs[0])


def test_a_seed_gives_the_same_views(photo):
    config = load_config(
        ROOT / 'configs/seed/'
        'seed-patches_resnet18-swav-resnet50_8xb32-coslr-200e_in1k.py'
    )
    one, two, other = (
        make_views(config, [str(photo[0])], seed=seed) for seed in (1, 1, 2)
    )
    assert [len(v) for v in one.pictures] == [1] * 7
    for a, b in zip(one.inputs, two.inputs, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.inputs[0], other.inputs[0])
    assert one.labels[0] == (
        'view 1, global\n224 x 224 px\nto student, teacher'
    )
    assert one.labels[6].startswith('view 7, small\n96 x 96 px\nto ')


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [
        ('oss/swav_resnet18_8xb32-coslr-200e_in1k', [224] * 2 + [96] * 6),
        (
            'baselines/dino_vit-tiny_8xb64-coslr-100e_in1k',
            [224] * 2 + [96] * 8,
        ),
        ('seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k', [224]),
        ('baselines/byol_resnet18_8xb32-accum16-coslr-200e_in1k', [224] * 2),
        (
            'visual_priors/supervised_resnet50_8xb32-steplr-100e_vipriors',
            [224],
        ),
    ],
)
def test_sizes_without_data(name, sizes):
    found = view_sizes(load_config(ROOT / f'configs/{name}.py'))
    assert found == [(size, size) for size in sizes]


def test_denormalise_by_hand():
    from mmssd.models.utils.input_statistics import InputStatistics

    view = torch.tensor([1.0, 0.0, -2.0]).view(1, 3, 1, 1)
    statistics = InputStatistics([100, 110, 120], [10, 20, 30], 'BGR')
    # 110, 110, 60 in BGR
    assert denormalise(view, statistics).flatten().tolist() == [60, 110, 110]
    assert denormalise(view * 200, None).flatten().tolist() == [200, 0, 0]


def test_tool(tool, photo, tmp_path, capsys):
    config = str(
        ROOT / 'configs/seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'
    )
    out = tmp_path / 'out/views.png'
    base = [config, '--out', str(out)]
    tool.main([*base, '--images', str(photo[0]), '--draws', '2'])
    assert capsys.readouterr().out.strip() == str(out)
    width, height = Image.open(out).size
    assert height > 0.9 * width > 300  # two rows, source and one view
    empty = Config(dict(default_scope='mmpretrain', model=dict(type='X')))
    empty.dump(tmp_path / 'empty.py')
    for wrong, message in (
        ([*base, '--images', 'none.png'], 'there is no image none.png'),
        ([*base, '--images', str(photo[0]), '--draws', '0'], '--draws 0'),
        (base, 'data/imagenet'),
        ([str(tmp_path / 'empty.py'), *base[1:]], ''),
    ):
        with pytest.raises(SystemExit):
            tool.main(wrong)
        assert message in capsys.readouterr().err
