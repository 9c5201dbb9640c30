"""A teacher's cache from the command line: SEED, and the labels of CC."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmssd.apis import config as configs
from mmssd.models.distillers.teacher_cache import TeacherCache

ROOT = Path(__file__).parents[2]

CONFIG = """
default_scope = 'mmpretrain'
root = {root!r}
backbone = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
neck = dict(
    type='MoCoV2Neck', in_channels=32, hid_channels=8, out_channels=8)
model = dict(
    type='Distiller', backbone=backbone, neck=neck,
    teacher=dict(
        backbone=backbone, neck=neck, checkpoint=root + '/teacher.pth'),
    heads=dict(similarity=dict(
        type='SimilarityQueueHead', embed_dim=8, queue_length=16)),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=[128] * 3, std=[64] * 3))
crop = [dict(type='RandomResizedCrop', scale=16)]
dataset = dict(type='CustomDataset', data_root=root, data_prefix='images')
train_dataloader = dict(
    batch_size=4, num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset, with_label=False, pipeline=[
            dict(type='LoadImage'),
            dict(type='MultiView', num_views=[1], transforms=[crop]),
            dict(type='PackInputs')]))
plain = [
    dict(type='LoadImage'), dict(type='Resize', scale=16),
    dict(type='PackInputs')]
bank = dict(**dataset, pipeline=plain)
query = dict(**dataset, pipeline=plain)
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
"""


def load(name):
    path = ROOT / f'tools/{name}.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / 'images' / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(root=str(tmp_path)))
    cfg = configs.load_config(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        parts = torch.nn.ModuleDict(
            {name: MODELS.build(cfg[name]) for name in ('backbone', 'neck')}
        )
    torch.save(dict(state_dict=parts.state_dict()), tmp_path / 'teacher.pth')
    return path


def test_cache_and_config_switch(config, tmp_path, capsys):
    tool, options = load('cache_teacher'), ['--cfg-options']
    options += [f'teacher_cache.path={tmp_path}/cache']
    options += ['teacher_cache.draws=2', 'teacher_cache.seed=3']
    tool.main([str(config), '--batch-size', '5', *options])
    printed = capsys.readouterr()
    assert '8 images, 2 draw(s), embeddings of 1 view(s)' in printed.out
    cache = TeacherCache(tmp_path / 'cache')
    assert cache.complete and cache.arrays['embeddings'].shape == (16, 1, 8)
    written = (cache.folder / 'embeddings.npy').read_bytes()
    tool.main([str(config), *options])
    printed = capsys.readouterr()
    assert '16 of 16 rows' in printed.out + printed.err
    assert (cache.folder / 'embeddings.npy').read_bytes() == written
    # the same switch in a training
    train = load('train')
    cfg = train.prepare(train.parse_args([str(config), *options]))
    assert cfg.model.teacher.cache == f'{tmp_path}/cache'
    data = cfg.train_dataloader.dataset
    assert (data.type, data.draws, data.seed) == (
        'mmpretrain.SeededViews',
        2,
        3,
    )


def test_labels_of_clusters_are_those_of_the_teacher_itself(config, tmp_path):
    cache, labels = (
        load('cache_teacher'),
        load('dataset_converters/pseudo_labels'),
    )
    folder = tmp_path / 'bank'
    cache.main([str(config), '--images', 'bank', '--out-dir', str(folder)])
    common = [str(config), '--part', 'teacher', '--clusters', '3']
    labels.main([*common, '--out-dir', str(tmp_path / 'a')])
    labels.main(
        [*common, '--out-dir', str(tmp_path / 'b')]
        + ['--teacher-cache', str(folder)]
    )
    for name in ('train.txt', 'val.txt'):
        first, second = (
            (tmp_path / out / name).read_text() for out in ('a', 'b')
        )
        assert first == second and len(first.splitlines()) == 8


def test_bad_input(config, tmp_path, capsys):
    cache, labels = (
        load('cache_teacher'),
        load('dataset_converters/pseudo_labels'),
    )

    def error(tool, *args):
        with pytest.raises(SystemExit) as info:
            tool.main([str(config), *map(str, args)])
        assert info.value.code == 1
        return capsys.readouterr().err

    assert 'Give --out-dir' in error(cache)
    assert '--batch-size 0' in error(cache, '--batch-size', 0)
    folder = tmp_path / 'train'
    cache.main([str(config), '--out-dir', str(folder)])
    to = ['--clusters', 2, '--out-dir', tmp_path, '--teacher-cache', folder]
    assert 'goes with --part teacher' in error(labels, *to)
    message = error(labels, '--part', 'teacher', *to)
    assert 'differs in plain (False there, True here), pipelines' in message


def test_benchmark(tmp_path, capsys):
    tool = load('benchmarks/teacher_cache')
    assert tool.pays_after(30.0, dict(teacher=8.0, cache=5.0)) == 10
    assert tool.pays_after(30.0, dict(teacher=5.0, cache=5.0)) is None
    out = tmp_path / 'cache.json'
    path = ROOT / 'configs/demo'
    seed = next(path.glob('seed_resnet18*.py'))
    tool.main(
        [str(seed), '--images', '8', '--batch-size', '4', '--draws', '2']
        + ['--queue', '8', '--rounds', '1', '--steps', '2']
        + ['--epochs', '2', '--out', str(out)]
    )
    record = json.loads(out.read_text())
    assert record['rows'] == 16
    assert record['largest_relative_difference'] < 1e-5
    assert set(record['epoch_s']) == {'teacher', 'cache'}
    spent = record['spent_s']
    assert all(0 < first < second for first, second in spent.values())
    assert spent['cache'][0] > record['making_s']
    printed = capsys.readouterr().out
    assert 'losses differ by' in printed and 'epoch 2: ' in printed
    oss = next(path.glob('oss_resnet18*.py'))
    for flags, message in (
        ([], 'has no frozen teacher'),
        (['--epochs', '-1'], '--epochs -1: must be at least 0'),
        (['--draws', '0'], '--draws 0: must be at least 1'),
    ):
        with pytest.raises(SystemExit):
            tool.main([str(oss), *flags])
        assert message in capsys.readouterr().err


def test_seconds_add_up_epoch_by_epoch():
    """A clock that each step moves: two steps of three, or of one second."""
    tool, now = load('benchmarks/teacher_cache'), [0.0]

    class Loop:
        def __init__(self, seconds):
            self.seconds = seconds

        def settle(self, function):
            now[0] += 100  # not counted

        def rest(self, seconds):
            assert seconds == self.seconds
            now[0] += 100

        def advance(self):
            now[0] += self.seconds

    spent = tool.spend_epochs(
        dict(teacher=Loop(3), cache=Loop(1)),
        epochs=3,
        iterations=2,
        start=dict(teacher=0.0, cache=7.0),
        clock=lambda: now[0],
    )
    assert spent == dict(teacher=[6, 12, 18], cache=[9, 11, 13])
