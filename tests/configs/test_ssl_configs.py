"""SimCLR and BYOL: views, learning rates and a step of every config."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config, register_modules

FOLDER = Path(__file__).resolve().parents[2] / 'configs/baselines'
SSL = sorted([*FOLDER.glob('simclr_*.py'), *FOLDER.glob('byol_*.py')])
FAMILY = (
    'simclr_resnet18_8xb32-coslr-200e_in1k',
    'byol_resnet18_8xb32-accum16-coslr-200e_in1k',
)
LEAVES = [
    path if path.stem in FAMILY else pytest.param(path, marks=pytest.mark.slow)
    for path in SSL
]


def ids(path):
    return path.stem


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_takes_a_step(path):
    config = load_config(path)
    assert config.sync_bn == 'torch'  # statistics of all processes
    byol = path.stem.startswith('byol')
    if byol:
        assert config.model.momentum == dict(decay=0.99, final_decay=1.0)
        config.model.momentum.pop('final_decay')  # follows a runner
        assert config.optim_wrapper.pop('accumulative_counts') == 16
    assert config.auto_scale_lr.base_batch_size == (4096 if byol else 256)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    model._check_use()

    # norms and biases, and nothing else, are spared
    names = {id(p): name for name, p in model.named_parameters()}
    modules = dict(model.named_modules())
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            owner = modules[name.rpartition('.')[0]]
            norm = 'running_mean' in owner._buffers
            spared = norm or name.endswith('bias')
            assert group.get('lars_exclude', False) == spared, name
            assert (group['weight_decay'] == 0) == spared, name

    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    model.train()
    views = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    logs = model.train_step(dict(inputs=views, data_samples=None), wrapper)
    term = 'prediction.loss_prediction' if byol else 'contrast.loss_contrast'
    assert set(logs) == {'loss', term} and torch.isfinite(logs['loss'])
    moved = {
        key.split('.')[0]
        for key, p in model.named_parameters()
        if not torch.equal(before[key], p)
    }
    assert {'backbone', 'neck'} <= moved
    assert 'momentum' not in moved  # a copy until the next step


@pytest.mark.parametrize(
    ('stem', 'theirs'),
    zip(
        FAMILY,
        (
            'simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py',
            'byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
        ),
        strict=True,
    ),
)
def test_projectors_have_the_layers_of_mmpretrain(stem, theirs):
    """But for the width that the backbone gives."""
    config = load_config(FOLDER / f'{stem}.py').model
    theirs = get_config(f'mmpretrain::{theirs}').model
    norm = dict(type='BN1d')  # theirs is synchronised by its type
    hidden = theirs.neck.hid_channels
    widths = dict(
        in_channels=512,
        hid_channels=512 if hidden == 2048 else hidden,
        norm_cfg=norm,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        ours, expected = (
            [tuple(p.shape) for p in MODELS.build(neck).parameters()]
            for neck in (config.neck, dict(theirs.neck, **widths))
        )
        assert ours == expected
        if 'byol' not in stem:
            return
        head = MODELS.build(config.heads.prediction)
        predictor = MODELS.build(dict(theirs.head.predictor, norm_cfg=norm))
    assert [tuple(p.shape) for p in head.predictor.parameters()] == [
        tuple(p.shape) for p in predictor.parameters()
    ]


@pytest.mark.parametrize('stem', FAMILY)
def test_views(stem):
    config = load_config(FOLDER / f'{stem}.py')
    register_modules('mmpretrain')
    image = np.random.RandomState(0).randint(
        0, 255, (64, 80, 3), dtype=np.uint8
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(config.train_dataloader.dataset.pipeline[1:])
        np.random.seed(0)
        views = pipeline(dict(img=image, img_shape=image.shape[:2]))['inputs']
    assert [tuple(view.shape) for view in views] == [(3, 224, 224)] * 2
    assert not torch.equal(*views)


def test_byols_second_views_are_solarised():
    config = load_config(FOLDER / f'{FAMILY[1]}.py')
    first, second = config.train_dataloader.dataset.pipeline[1].transforms
    assert [first[0].interpolation, second[0].interpolation] == ['bicubic'] * 2
    assert [t.prob for t in first if t.type == 'GaussianBlur'] == [1.0]
    assert [t.prob for t in second if t.type == 'GaussianBlur'] == [0.1]
    assert [t.type for t in first].count('Solarize') == 0
    assert [(t.thr, t.prob) for t in second if t.type == 'Solarize'] == [
        (128, 0.2)
    ]
