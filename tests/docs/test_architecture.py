"""The worked example of docs/architecture.md does what it says."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.models.utils.step import Encodings, Step

TEXT = (Path(__file__).parents[2] / 'docs/architecture.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, flags=re.DOTALL)


@pytest.fixture
def head():
    """The head of the first block, as a module of the package."""
    space = {'__name__': 'mmssd.models.heads.distance_head'}
    space['__package__'] = 'mmssd.models.heads'
    exec(BLOCKS[0], space)
    yield space['DistanceHead']
    del MODELS._module_dict['DistanceHead']


def test_the_head_computes_what_the_text_says(head):
    student = torch.tensor([[1.0, 0.0], [0.0, 3.0]], requires_grad=True)
    orthogonal = torch.tensor([[0.0, 2.0], [5.0, 0.0]], requires_grad=True)
    for teacher, expected in ((orthogonal, 2.0), (student, 0.0)):
        step = Step(
            student=Encodings(embeddings=[student]),
            teacher=Encodings(embeddings=[teacher]),
            num_global=1,
        )
        loss = head().loss(step)['loss_distance']
        assert loss.item() == pytest.approx(expected)
    step.teacher.embeddings = [orthogonal]
    head().loss(step)['loss_distance'].backward()
    # 2 - 2 cos: the gradient of a row is -2 times the teacher's direction
    # over the row's norm, halved by the mean over two rows
    expected = torch.tensor([[0.0, -1.0], [-1.0 / 3, 0.0]])
    torch.testing.assert_close(student.grad, expected)
    assert orthogonal.grad is None


def test_the_config_trains(head):
    space = {}
    text = BLOCKS[1].replace('backbone=..., neck=...', 'backbone=b, neck=n')
    assert 'b, neck=n' in text
    space['b'] = dict(type='ResNet', depth=18)
    space['n'] = dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        norm_cfg=dict(type='BN1d'),
    )
    exec(text, space)
    config = space['model']
    # weights of this run instead of a file
    config['teacher'].update(checkpoint=None, frozen=False)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    losses = model([torch.randn(2, 3, 32, 32)] * 2, mode='loss')
    assert list(losses) == ['distance.loss_distance']
    losses['distance.loss_distance'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.teacher.backbone.conv1.weight.grad is None


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_hooks_are_found_from_other_scopes(scope):
    pytest.importorskip(scope)
    registry = pytest.importorskip(f'{scope}.registry')
    with DefaultScope.overwrite_default_scope(scope):
        hook = registry.HOOKS.build(dict(type='mmpretrain.HealthHook'))
    assert type(hook).__module__.startswith('mmssd.')
