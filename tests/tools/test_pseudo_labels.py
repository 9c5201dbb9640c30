"""From images to lists of clusters, by the tool."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = """
default_scope = 'mmpretrain'
root = {root!r}
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8,
                  base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=[128] * 3, std=[64] * 3))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
bank = dict(
    type='CustomDataset', data_root=root, data_prefix='train',
    pipeline=pipeline)
query = dict(
    type='CustomDataset', data_root=root, data_prefix='val',
    pipeline=pipeline)
"""


@pytest.fixture
def main():
    path = ROOT / 'tools/dataset_converters/pseudo_labels.py'
    spec = importlib.util.spec_from_file_location('pseudo_labels', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def config(tmp_path):
    for split, number in (('train', 8), ('val', 4)):
        for i in range(number):
            path = tmp_path / split / 'any' / f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = ((255, 0, 0), (0, 0, 255))[i % 2]
            Image.new('RGB', (16, 16), colour).save(path)
    path = tmp_path / 'config.py'
    path.write_text(CONFIG.format(root=str(tmp_path)))
    return path


def test_two_colours_are_two_clusters(main, config, tmp_path, capsys):
    torch.manual_seed(0)
    out = tmp_path / 'meta'
    main([str(config), '--clusters', '2', '--out-dir', str(out)])
    said = capsys.readouterr().out
    record = json.loads(said[said.index('{') :])
    assert (record['smallest'], record['largest']) == (4, 4)
    labels = {}
    for split in ('train', 'val'):
        lines = (out / f'{split}.txt').read_text().splitlines()
        labels[split] = dict(line.rsplit(' ', 1) for line in lines)
    even = labels['train']['any/0.png']
    for split, number in (('train', 8), ('val', 4)):
        assert len(labels[split]) == number
        for i in range(number):
            assert (labels[split][f'any/{i}.png'] == even) == (i % 2 == 0)


def test_too_many_clusters(main, config, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(config), '--clusters', '9', '--out-dir', str(tmp_path)])
    assert caught.value.code == 1
    assert 'num_clusters=9 of features (8, 64)' in capsys.readouterr().err
