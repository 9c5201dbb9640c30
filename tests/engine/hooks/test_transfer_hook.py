"""What a run states about its initialisation is what happened."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmpretrain.registry import HOOKS, MODELS

from mmssd.engine.hooks.transfer_hook import TransferHook
from mmssd.models.utils.plan import SetupError

BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)


@pytest.fixture
def runner(tmp_path):
    path = str(tmp_path / 'student.pth')
    model = dict(
        type='ImageClassifier',
        backbone=dict(
            **BACKBONE,
            init_cfg=dict(
                type='Pretrained', checkpoint=path, prefix='backbone.'
            ),
        ),
    )
    built = MODELS.build(model)
    state = {
        k: torch.rand_like(v.float()).to(v.dtype)
        for k, v in built.state_dict().items()
    }
    torch.save(dict(state_dict=state), path)
    built.init_weights()
    return SimpleNamespace(
        cfg=Config(dict(model=model, default_scope='mmpretrain')),
        model=built,
        logger=MMLogger.get_instance('test'),
        message_hub=MessageHub.get_instance('test'),
        _resume=False,
        _load_from=None,
    )


def start(runner, **kwargs):
    hook = HOOKS.build(dict(type='TransferHook', **kwargs))
    hook.before_run(runner)
    hook.before_train(runner)
    return runner.message_hub.get_info('initialisation')


def test_states_what_was_proven(runner):
    assert start(runner).startswith('backbone from ')
    assert start(runner, statement='as before') == 'as before'


def test_weights_that_are_not_those_of_the_file(runner):
    with torch.no_grad():
        runner.model.backbone.layer2[0].conv1.weight[0, 0, 0, 0] += 1e-3
        runner.model.backbone.bn1.running_mean.zero_()
    with pytest.raises(SetupError) as info:
        start(runner)
    assert str(info.value).startswith('2 tensors of the backbone are not')
    assert 'bn1.running_mean, layer2.0.conv1.weight' in str(info.value)


def test_other_beginnings_are_stated(runner):
    with torch.no_grad():
        runner.model.backbone.conv1.weight.zero_()
    runner._load_from = 'all.pth'
    assert start(runner).endswith('replaced by load_from=all.pth')
    runner._resume = True
    assert start(runner).startswith('resumed; the run began with: backbone')


def test_nothing_to_compare(runner):
    del runner.cfg.model.backbone['init_cfg']
    assert 'random weights' in start(runner)
    assert TransferHook().statement is None
