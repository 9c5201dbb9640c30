"""A transfer that does not take place must stop the run."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import register_modules
from mmssd.apis.transfer import (
    pretrained_backbone,
    prove_initialisation,
    set_transfer,
)
from mmssd.models.utils.plan import SetupError

SMALL = dict(stem_channels=8, base_channels=8)
STUDENT = dict(type='ResNet', depth=18, **SMALL)


def random_state(backbone):
    """Weights under which every layer matters."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        module = MODELS.build(backbone)
    state = module.state_dict()
    for value in state.values():
        if value.dim() > 1:
            torch.nn.init.kaiming_normal_(value)
        elif value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return {f'backbone.{key}': value for key, value in state.items()}


@pytest.fixture
def write(tmp_path):
    """Write a run's checkpoint, with or without its config."""

    def write(backbone=STUDENT, state=None, config=True):
        state = random_state(backbone) if state is None else state
        text = Config(
            dict(default_scope='mmpretrain', model=dict(backbone=backbone))
        ).pretty_text
        meta = dict(cfg=text) if config else {}
        path = tmp_path / 'student.pth'
        torch.save(
            dict(
                meta=meta,
                state_dict={**state, 'neck.fc.weight': torch.ones(2, 2)},
            ),
            path,
        )
        return str(path)

    return write


def pretrained(path, prefix='backbone.'):
    return dict(type='Pretrained', checkpoint=path, prefix=prefix)


def config(backbone, scope='mmdet', **model):
    pytest.importorskip(scope)
    register_modules(scope)
    model = dict(type='Any', backbone=copy.deepcopy(backbone), **model)
    return Config(dict(default_scope=scope, model=model))


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
@pytest.mark.parametrize('says', [True, False])
def test_whole_transfer(write, scope, says):
    path = write(config=says)
    backbone = dict(STUDENT, init_cfg=pretrained(path))
    text = prove_initialisation(config(backbone, scope))
    count = len(random_state(STUDENT))
    assert f'backbone from {path}' in text
    assert f'{count} of its {count} tensors used' in text
    compared = says or scope != 'mmpretrain'
    assert ('features equal' in text) == compared
    assert ('features not compared' in text) != compared


@pytest.mark.parametrize(
    'student',
    [
        dict(type='MobileNetV2', widen_factor=0.25, out_indices=(1, 7)),
        dict(type='TIMMBackbone', model_name='resnet10t', features_only=True),
    ],
    ids=lambda student: student['type'],
)
def test_students_of_mmpretrain_in_a_detector(write, student):
    path = write(student)
    backbone = dict(student, init_cfg=pretrained(path))
    backbone['type'] = f'mmpretrain.{student["type"]}'
    text = prove_initialisation(config(backbone))
    assert 'features equal to those of the pretrained network' in text


def failure(cfg):
    with pytest.raises(SetupError) as info:
        prove_initialisation(cfg)
    return str(info.value)


def test_a_file_without_a_config(write, tmp_path):
    """Another file may say which network it was; it has to be that one."""
    path = write(config=False)
    said = tmp_path / 'pretraining.py'
    said.write_text(
        f"default_scope = 'mmpretrain'\nmodel = dict(backbone={STUDENT})\n"
    )
    cfg = config(dict(STUDENT, init_cfg=pretrained(path)), 'mmpretrain')
    assert 'name its config by --cfg-options' in prove_initialisation(cfg)
    cfg.pretrained_config = str(said)
    assert 'features equal to those of the pretrained network' in (
        prove_initialisation(cfg)
    )
    # the same keys in another arrangement
    said.write_text(said.read_text().replace("'ResNet'", "'ResNetV1d'"))
    with pytest.raises(SetupError, match='pretrained_config=.* is not that'):
        prove_initialisation(cfg)
    caffe = dict(STUDENT, strides=(1, 1, 2, 2))
    said.write_text(
        f"default_scope = 'mmpretrain'\nmodel = dict(backbone={caffe})\n"
    )
    assert 'it is another network' in failure(cfg)


def test_renamed_key(write):
    state = random_state(STUDENT)
    state['backbone.layer3.1.convX.weight'] = state.pop(
        'backbone.layer3.1.conv2.weight'
    )
    backbone = dict(STUDENT, init_cfg=pretrained(write(state=state)))
    said = failure(config(backbone))
    assert '1 missing key(s): layer3.1.conv2.weight' in said
    assert '1 surplus key(s): layer3.1.convX.weight' in said
    assert 'model.backbone.init_cfg=None' in said


def test_missing_stage(write):
    state = {
        key: value
        for key, value in random_state(STUDENT).items()
        if 'layer4' not in key
    }
    backbone = dict(STUDENT, init_cfg=pretrained(write(state=state)))
    said = failure(config(backbone))
    assert 'missing key(s): layer4.0.conv1.weight' in said


def test_a_stage_that_nobody_takes(write):
    backbone = dict(
        STUDENT,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        init_cfg=pretrained(write()),
    )
    said = failure(config(backbone))
    assert 'surplus key(s): layer4.0.conv1.weight' in said


def test_another_stem(write):
    backbone = dict(
        type='ResNetV1c', depth=18, **SMALL, init_cfg=pretrained(write())
    )
    said = failure(config(backbone, 'mmseg'))
    assert 'missing key(s): stem.0.weight' in said
    assert 'surplus key(s): conv1.weight' in said


def test_another_width(write):
    wide = dict(STUDENT, stem_channels=16, base_channels=16)
    said = failure(config(dict(wide, init_cfg=pretrained(write()))))
    assert 'conv1.weight (8, 3, 7, 7) instead of (16, 3, 7, 7)' in said


def test_another_architecture_without_a_prefix(write):
    backbone = dict(
        type='mmpretrain.MobileNetV2', init_cfg=pretrained(write(), '')
    )
    assert 'not one key matches' in failure(config(backbone))


def test_wrong_prefix(write):
    said = failure(
        config(dict(STUDENT, init_cfg=pretrained(write(), 'student')))
    )
    assert "no key that begins with 'student.'" in said
    assert "with prefix='backbone.' they would" in said


def test_missing_file():
    said = failure(config(dict(STUDENT, init_cfg=pretrained('gone.pth'))))
    assert 'gone.pth not found' in said
    assert 'checkpoint=FILE' in said


def test_same_keys_but_other_strides(write):
    """ResNets of two styles have the same keys and shapes."""
    deep = dict(type='ResNet', depth=50, **SMALL)
    backbone = dict(
        type='ResNet',
        depth=50,
        stem_channels=8,
        base_channels=8,
        style='caffe',
        init_cfg=pretrained(write(deep)),
    )
    said = failure(config(backbone))
    assert 'differ from those of the pretrained network by' in said
    assert 'style' in said


def test_same_keys_but_another_activation(write):
    student = dict(type='MobileNetV2', widen_factor=0.25)
    backbone = dict(
        type='mmpretrain.MobileNetV2',
        widen_factor=0.25,
        act_cfg=dict(type='ReLU'),
        init_cfg=pretrained(write(student)),
    )
    assert 'differ from those of' in failure(config(backbone))


def test_dilations_of_a_segmentor_are_set_aside(write):
    backbone = dict(
        STUDENT,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        init_cfg=pretrained(write()),
    )
    text = prove_initialisation(config(backbone, 'mmseg'))
    assert 'features equal to those of the pretrained network' in text
    assert 'strides, dilations, contract_dilation set aside' in text


def c4(path):
    pytest.importorskip('mmdet')
    import mmpretrain.models.utils.res_layer_extra_norm  # noqa: F401

    return config(
        dict(
            type='ResNet',
            depth=18,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
            init_cfg=pretrained(path),
        ),
        roi_head=dict(
            type='Head',
            shared_head=dict(
                type='ResLayerExtraNorm',
                depth=18,
                stage=3,
                norm_eval=False,
                init_cfg=pretrained(path),
            ),
        ),
    )


def test_last_stage_in_the_head_of_a_detector(write):
    full = dict(type='ResNet', depth=18)
    text = prove_initialisation(c4(write(full)))
    count = len(random_state(full))
    assert 'backbone and roi_head.shared_head from' in text
    assert f'{count} of its {count} tensors used' in text
    assert 'features equal to those of the pretrained network' in text
    assert text.endswith('new: roi_head.shared_head.norm')


def test_incomplete_last_stage_in_the_head(write):
    full = dict(type='ResNet', depth=18)
    state = random_state(full)
    state['backbone.layer4.1.bn2.gamma'] = state.pop(
        'backbone.layer4.1.bn2.weight'
    )
    said = failure(c4(write(full, state)))
    assert 'model.roi_head.shared_head' in said
    assert 'missing key(s): layer4.1.bn2.weight' in said


def test_without_a_prefix_a_classifier_may_be_left_over(tmp_path):
    state = {
        key.removeprefix('backbone.'): value
        for key, value in random_state(STUDENT).items()
    }
    path = tmp_path / 'resnet.pth'
    torch.save({**state, 'fc.weight': torch.ones(2, 2)}, path)
    backbone = dict(STUDENT, init_cfg=pretrained(str(path), ''))
    text = prove_initialisation(config(backbone))
    assert text.endswith('not used: fc.weight')
    whole = config(STUDENT, 'mmseg', pretrained=str(path))
    assert pretrained_backbone(whole) == (str(path), '')
    assert f'backbone from {path}' in prove_initialisation(whole)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_random_weights_have_to_be_asked_for(scope):
    said = failure(config(STUDENT, scope))
    assert 'without saying so' in said
    assert 'model.backbone.init_cfg=None' in said
    named = config(dict(STUDENT, init_cfg=None), scope)
    assert 'backbone from random weights, as asked for by' in (
        prove_initialisation(named)
    )
    kaiming = dict(type='Kaiming', layer='Conv2d')
    named = config(dict(STUDENT, init_cfg=kaiming), scope)
    assert "'Kaiming'" in prove_initialisation(named)
    assert 'pretrained=None' in prove_initialisation(
        config(STUDENT, 'mmseg', pretrained=None)
    )


def test_pretraining_starts_as_it_likes():
    text = prove_initialisation(config(STUDENT, 'mmpretrain'))
    assert text == 'backbone from random weights: the config names none'


@pytest.mark.parametrize(
    'model',
    [
        dict(type='FrozenClassifier'),
        dict(type='DistillClassifier', freeze_backbone=True),
        dict(type='ImageClassifier', backbone=dict(frozen_stages=4)),
    ],
    ids=lambda model: model['type'],
)
def test_a_frozen_backbone_has_to_say_what_it_is(model):
    backbone = dict(type='ResNet', depth=18, **model.get('backbone', {}))
    config = Config(dict(model={**model, 'backbone': backbone}))
    with pytest.raises(SetupError, match='model.backbone has no init_cfg'):
        prove_initialisation(config)


def test_a_config_of_a_transfer_has_to_say_what_it_starts_from():
    cfg = config(STUDENT, 'mmpretrain')
    cfg.custom_hooks = [dict(type='HealthHook'), dict(type='TransferHook')]
    with pytest.raises(SetupError, match='model.backbone has no init_cfg'):
        prove_initialisation(cfg)
    # a config that a pretraining has written says so of its own accord
    cfg.custom_hooks[1].statement = 'backbone from random weights'
    assert 'the config names none' in prove_initialisation(cfg)


def test_other_files_of_a_pretraining_are_left_alone():
    target = dict(type='Any', init_cfg=pretrained('gone.pth', ''))
    cfg = config(STUDENT, 'mmpretrain', target_generator=target)
    assert 'random weights' in prove_initialisation(cfg)


def test_load_from_counts_if_it_fits(write):
    cfg = config(STUDENT)
    cfg.load_from = write()
    assert prove_initialisation(cfg) == f'all from load_from={cfg.load_from}'
    cfg = config(dict(STUDENT, depth=34))
    cfg.load_from = write()
    assert 'missing key(s)' in failure(cfg)


def test_no_checkpoint_in_init_cfg():
    backbone = dict(STUDENT, init_cfg=dict(type='Pretrained'))
    assert 'names no checkpoint' in failure(config(backbone))


def test_the_hook_is_added_once(write):
    cfg = config(dict(STUDENT, init_cfg=pretrained(write())), 'mmpretrain')
    set_transfer(cfg)
    set_transfer(cfg)
    (hook,) = cfg.custom_hooks
    assert hook.type == 'mmpretrain.TransferHook'
    assert 'features equal' in hook.statement
