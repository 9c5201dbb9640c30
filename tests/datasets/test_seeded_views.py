"""Views that come out the same whenever their draw comes up."""

import random
import shutil

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

import mmssd.datasets  # noqa: F401
from mmssd.datasets.array_dataset import ArrayDataset
from mmssd.datasets.seeded_views import SeededViews, seeded
from mmssd.models.utils.plan import SetupError

CROPS = [
    dict(type='RandomResizedCrop', scale=8),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='ColorJitter',
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
    ),
]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / 'images'
    root.mkdir()
    for number in range(5):
        pixels = rng.integers(0, 256, (12, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number}.png')
    return root


def config(folder, **kwargs):
    return dict(
        type='UnlabelledFolder',
        data_root=str(folder),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='MultiView', num_views=2, transforms=[CROPS]),
            dict(type='PackInputs'),
        ],
        **kwargs,
    )


def make(folder, **kwargs):
    return SeededViews(config(folder), **{'draws': 3, **kwargs})


def assert_same(a, b):
    for one, other in zip(a['inputs'], b['inputs'], strict=True):
        assert torch.equal(one, other)


def test_a_draw_gives_the_same_views_again(folder):
    data = make(folder, seed=7)
    first = data.view(2, 1)
    assert not torch.equal(*first['inputs'])
    assert first['data_samples'].view_key == (7, 2, 1)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    data.view(4, 0)
    assert_same(first, data.view(2, 1))
    for index, draw, seed in ((2, 0, 7), (3, 1, 7), (2, 1, 8)):
        other = make(folder, seed=seed).view(index, draw)
        assert not torch.equal(first['inputs'][0], other['inputs'][0])


def test_views_are_those_of_the_pipeline(folder):
    """Nothing but the seed is ours."""
    data = make(folder)
    plain = DATASETS.build(config(folder))
    with seeded((0, 3, 2)):
        expected = plain[3]
    assert_same(data.view(3, 2), expected)


def test_generators_go_on_as_if_nothing_had_been_drawn(folder):
    data = make(folder)

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    for module in (random, np.random):
        module.seed(3)
    torch.manual_seed(3)
    expected = draw()
    for module in (random, np.random):
        module.seed(3)
    torch.manual_seed(3)
    data.view(0, 0)
    assert draw() == expected
    with pytest.raises(RuntimeError, match='inside'), seeded((0, 0, 0)):
        raise RuntimeError('inside')
    torch.manual_seed(3)
    assert torch.rand(()).item() == expected[2]


@pytest.mark.parametrize('num_workers', [0, 1])
def test_items_are_random_draws(folder, num_workers):
    data = make(folder)
    loader = DataLoader(
        data,
        batch_size=5,
        num_workers=num_workers,
        collate_fn=default_collate,
        sampler=[number % 5 for number in range(60)],
    )
    drawn = []
    for batch in loader:
        for row, sample in enumerate(batch['data_samples']):
            _, index, draw = sample.view_key
            drawn.append(draw)
            expected = data.view(index, draw)['inputs']
            for view, other in zip(batch['inputs'], expected, strict=True):
                assert torch.equal(view[row], other)
    # 60 draws of 3: each 20 on average, standard deviation 3.7
    assert all(5 < drawn.count(draw) < 35 for draw in range(3))


class Arrays(ArrayDataset):
    def __init__(self, number=4, change=None, **kwargs):
        images = np.random.default_rng(0).integers(
            0, 256, (number, 6, 6, 3), dtype=np.uint8
        )
        if change is not None:
            images[change] += 1
        super().__init__(images, np.zeros(number, dtype=int), **kwargs)


def test_items_without_data_samples_carry_their_key():
    data = SeededViews(Arrays(pipeline=[dict(type='PackImage')]), 2, seed=5)
    batch = default_collate([data.view(3, 1), data.view(0, 0)])
    assert batch['data_samples'].tolist() == [[5, 3, 1], [5, 0, 0]]
    assert batch['inputs'].shape == (2, 3, 6, 6)


def test_recipe_names_what_the_views_depend_on(folder):
    recipe = make(folder, draws=4, seed=1).recipe()
    assert (recipe['draws'], recipe['seed']) == (4, 1)
    (pipeline,) = recipe['pipelines']
    assert [step['type'] for step in pipeline] == [
        'LoadImage',
        'MultiView',
        'PackInputs',
    ]
    assert pipeline[1]['transforms'][0][0]['scale'] == 8
    other = config(folder)
    other['pipeline'][1]['transforms'] = [[*CROPS[:2]]]
    assert SeededViews(other, 4, 1).recipe() != recipe
    nested = dict(type='RepeatDataset', times=2, dataset=config(folder))
    assert SeededViews(nested, 4, 1).recipe() == recipe
    with pytest.raises(SetupError, match='given a built data set'):
        SeededViews(Arrays(pipeline=[]), 4, 1).recipe()


def test_hash_of_the_list_of_images(folder, tmp_path):
    data = make(folder)
    found = data.data_hash()
    elsewhere = tmp_path / 'elsewhere'
    shutil.copytree(folder, elsewhere)
    assert make(elsewhere).data_hash() == found
    (elsewhere / '3.png').unlink()
    assert make(elsewhere).data_hash() != found
    for name in ('a.txt', 'b.txt'):
        lines = [f'{number}.png' for number in range(5)]
        lines = lines if name == 'a.txt' else lines[::-1]
        (folder / name).write_text('\n'.join(lines))
    hashes = [
        SeededViews(config(folder, ann_file=name)).data_hash()
        for name in ('a.txt', 'b.txt')
    ]
    assert hashes[0] == found != hashes[1]
    # in memory: by the pixels
    arrays = [
        SeededViews(Arrays(pipeline=[], **kwargs)).data_hash()
        for kwargs in (dict(), dict(), dict(number=5), dict(change=2))
    ]
    assert arrays[0] == arrays[1]
    assert len(set(arrays)) == 3
    with pytest.raises(SetupError, match='which image is number 0'):
        SeededViews([dict()]).data_hash()


def test_errors(folder):
    for kwargs in (dict(draws=0), dict(seed=-1)):
        with pytest.raises(ValueError, match='at least one draw'):
            make(folder, **kwargs)
    with pytest.raises(IndexError, match='draw 3 of 3'):
        make(folder).view(0, 3)


def test_as_a_data_set_of_mmengine(folder):
    data = DATASETS.build(
        dict(type='SeededViews', dataset=config(folder), draws=2)
    )
    data.full_init()
    assert len(data) == 5
    assert data.metainfo == data.dataset.metainfo
