"""What a run states about its initialisation is what happened."""

import logging
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


def test_features_that_were_not_compared_are_a_warning(runner, tmp_path):
    handler = logging.Handler()
    records = []
    handler.emit = lambda record: (
        records.append(record)
        if 'initialisation:' in record.getMessage()
        else None
    )
    runner.logger.addHandler(handler)
    start(runner)  # the file has no config
    (record,) = records
    assert record.levelname == 'WARNING'
    text = record.getMessage()
    assert 'features not compared (the file does not say which' in text
    assert '--cfg-options pretrained_config=CONFIG' in text
    assert '\n' not in text  # tables read it from the log

    records.clear()
    backbone = {
        k: v for k, v in runner.cfg.model.backbone.items() if k != 'init_cfg'
    }
    named = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(type='ImageClassifier', backbone=backbone),
        )
    )
    named.dump(tmp_path / 'pretraining.py')
    runner.cfg.pretrained_config = str(tmp_path / 'pretraining.py')
    start(runner)
    (record,) = records
    assert record.levelname == 'INFO'
    assert 'features equal to those of the pretrained' in record.getMessage()
