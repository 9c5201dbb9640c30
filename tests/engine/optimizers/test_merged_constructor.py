"""Parameter groups of equal options."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.optim import (
    CosineAnnealingParamScheduler,
    LinearLR,
    build_optim_wrapper,
)
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.apis.config import load_config
from mmssd.engine.optimizers.merged_constructor import merge_groups

CONFIGS = Path(__file__).parents[3] / 'configs'
SLOW = dict(lr_mult=0.5)
SPARED = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 7), nn.Linear(7, 3)
    )


def wrapper(model, optimizer, paramwise, merged):
    config = dict(
        optimizer=dict(lr=0.1, weight_decay=0.3, **optimizer),
        paramwise_cfg=paramwise,
    )
    if merged:
        config['constructor'] = 'MergedConstructor'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return build_optim_wrapper(model, copy.deepcopy(config))


def test_groups_by_hand():
    a, b, c, d = (nn.Parameter(torch.zeros(1)) for _ in range(4))
    groups = [
        dict(params=[a], lr=0.1),
        dict(params=[b], lr=0.2, weight_decay=0.0),
        dict(params=c, lr=0.1),
        dict(params=(d,), lr=0.2),
    ]
    merged = merge_groups(groups)
    assert [[id(p) for p in group.pop('params')] for group in merged] == [
        [id(a), id(c)],
        [id(b)],
        [id(d)],
    ]
    assert merged == [
        dict(lr=0.1),
        dict(lr=0.2, weight_decay=0.0),
        dict(lr=0.2),
    ]


def test_shared_weights_are_not_updated_twice():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=r'shape \(3, 3\) is in two groups'):
        wrapper(model, dict(type='SGD'), SPARED, merged=True)
    once = dict(SPARED, bypass_duplicate=True)
    update = wrapper(model, dict(type='SGD'), once, merged=True)
    assert sum(len(g['params']) for g in update.optimizer.param_groups) == 3


def test_schedules_and_a_resumed_run():
    """Warm-up, then weight decay up to ten times, stopped in the middle."""
    results = []
    for merged in (False, True):
        model = network()
        update = wrapper(model, dict(type='AdamW'), SPARED, merged)

        def schedules(update=update):
            return [
                LinearLR(update, start_factor=0.1, end=3, by_epoch=False),
                CosineAnnealingParamScheduler(
                    update.optimizer,
                    param_name='weight_decay',
                    eta_min_ratio=10.0,
                    T_max=6,
                    by_epoch=False,
                ),
            ]

        running = schedules()
        for step in range(6):
            if step == 3:  # as a resumed run does
                state = copy.deepcopy(update.state_dict())
                states = [s.state_dict() for s in running]
                update = wrapper(model, dict(type='AdamW'), SPARED, merged)
                running = schedules(update)
                update.load_state_dict(state)
                for one, kept in zip(running, states, strict=True):
                    one.load_state_dict(kept)
            x = torch.linspace(-1, 1, 20).view(4, 5)
            update.update_params(model(x).square().sum())
            for one in running:
                one.step()
        results.append(model.state_dict())
    for name, value in results[0].items():
        assert torch.equal(results[1][name], value)


@pytest.mark.parametrize(
    'optimizer',
    [
        dict(type='AdamW'),
        dict(type='LARS', momentum=0.9),
        dict(type='ClippedAdamW', max_norm=0.1),
        dict(type='LARC'),
    ],
)
@pytest.mark.parametrize(
    ('paramwise', 'number'),
    [
        (SPARED, 2),
        (dict(custom_keys={'0': SLOW, '3.bias': dict(decay_mult=0.0)}), 3),
        (None, 1),
    ],
)
def test_updates_are_those_of_single_groups(optimizer, paramwise, number):
    results = []
    for merged in (False, True):
        model = network()
        update = wrapper(model, optimizer, paramwise, merged)
        for _ in range(3):
            x = torch.linspace(-1, 1, 20).view(4, 5)
            update.update_params(model(x).square().sum())
        results.append(model.state_dict())
        groups = update.optimizer.param_groups
        assert len(groups) == (number if merged or not paramwise else 8)
        assert sum(len(group['params']) for group in groups) == 8
    for name, value in results[0].items():
        assert torch.equal(results[1][name], value)


@pytest.mark.parametrize(
    ('config', 'number'),
    [
        ('demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py', 2),
        ('baselines/byol_resnet18_8xb32-accum16-coslr-200e_in1k.py', 2),
        ('disco/disco-dino_vit-tiny-vit-small_8xb64-coslr-100e_in1k.py', 2),
        ('baselines/cc_resnet18-swav-resnet50_8xb32-90e_in1k.py', 2),
    ],
)
def test_configs_have_few_groups(config, number):
    cfg = load_config(str(CONFIGS / config))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        cfg.optim_wrapper.pop('accumulative_counts', None)
        update = build_optim_wrapper(model, cfg.optim_wrapper)
    assert len(update.optimizer.param_groups) == number
