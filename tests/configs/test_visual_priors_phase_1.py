"""Visual Priors, phase 1: MoCo with and without a margin."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'visual_priors'
PHASE_1 = {
    path.stem: load_config(path) for path in sorted(FOLDER.glob('moco*.py'))
}
FIRST = 'moco-margin_resnet50_8xb32-steplr-800e_vipriors'


@pytest.mark.parametrize('name', PHASE_1)
def test_phase_1(name):
    """Queue and margin as the name says; phase 2 finds its weights."""
    init_default_scope('mmpretrain')
    config = PHASE_1[name]
    model = config.model
    head = model.heads.contrast
    assert head.margin == (0.4 if 'margin' in name else 0)
    assert head.temperature == 0.2
    lengths = {'k1024': 1024, 'k256': 256}
    wanted = [v for k, v in lengths.items() if f'{k}_' in name] or [4096]
    assert head.queue_length == wanted[0]
    assert (model.get('momentum') is None) == ('in-batch' in name)
    assert config.train_cfg.max_epochs == 800
    assert config.optim_wrapper.optimizer.lr == 0.03
    schedule = config.param_scheduler[0]
    if 'coslr' in name:
        assert schedule.T_max == 800
    else:
        assert schedule.milestones == [120, 160]
    assert config.train_dataloader.dataset.data_root == 'data/vipriors'
    assert config.sync_bn is None


def test_phase_2_starts_from_phase_1():
    for path in sorted(FOLDER.glob('*.py')):
        if path.stem in PHASE_1:
            continue
        backbone = load_config(path).model.backbone
        if 'init_cfg' not in backbone:
            continue
        run = Path(backbone.init_cfg.checkpoint).parent.name
        first = PHASE_1[run].model.backbone
        for key in ('type', 'depth', 'groups', 'width_per_group'):
            assert first.get(key) == backbone.get(key), (path.stem, key)


@pytest.mark.parametrize(
    'name',
    [
        name if name == FIRST else pytest.param(name, marks=pytest.mark.slow)
        for name in PHASE_1
    ],
)
def test_phase_1_takes_a_step(name):
    init_default_scope('mmpretrain')
    config = PHASE_1[name].copy()
    model = MODELS.build(config.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = model.backbone.conv1.weight.detach().clone()
    model.train()
    views = [torch.randn(4, 3, 64, 64) for _ in range(2)]
    logs = model.train_step(
        dict(inputs=views, data_samples=None), optim_wrapper
    )
    assert {key for key in logs if 'loss_' in key} == {
        'contrast.loss_contrast'
    }
    assert all(torch.isfinite(value).all() for value in logs.values())
    assert not torch.equal(before, model.backbone.conv1.weight)
