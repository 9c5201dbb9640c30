"""The worked example of docs/architecture.md does what it says."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docs/architecture.md').read_text()
BLOCKS = {
    text.splitlines()[0].removeprefix('# '): text
    for text in re.findall(r'```python\n(.*?)```', TEXT, flags=re.DOTALL)
}
HEAD = 'mmssd/models/heads/distance_head.py'
CONFIG = 'configs/distance/distance_resnet18w4-resnet18w32_garments.py'
TEST = 'tests/models/heads/test_distance_head.py'


@pytest.fixture
def head(monkeypatch):
    """The head of the text, as a module of the package."""
    name = HEAD.removesuffix('.py').replace('/', '.')
    module = types.ModuleType(name)
    module.__package__ = name.rpartition('.')[0]
    exec(BLOCKS[HEAD], module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    yield
    del MODELS._module_dict['DistanceHead']


def test_its_test_passes(head):
    space = {}
    exec(BLOCKS[TEST], space)
    tests = [name for name in space if name.startswith('test_')]
    assert tests
    for name in tests:
        space[name]()


def test_its_config_trains(head, tmp_path):
    base = ROOT / 'configs' / 'demo'
    path = tmp_path / Path(CONFIG).name
    path.write_text(BLOCKS[CONFIG].replace('../demo', str(base)))
    config = load_config(path)
    assert CONFIG in TEXT.split(BLOCKS[CONFIG])[1]  # the command names it
    demo = load_config(next(base.glob('oss_*.py')))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        trained = MODELS.build(demo.model)
        file = tmp_path / 'iter_700.pth'
        torch.save(dict(state_dict=trained.state_dict()), file)
        config.model.teacher.checkpoint = str(file)
        model = MODELS.build(config.model)
    model.teacher.init_weights()
    model.train()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    views = model.data_preprocessor(dict(inputs=images), True)['inputs']
    losses = model(views, mode='loss')
    assert list(losses) == ['distance.loss_distance']
    losses['distance.loss_distance'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.teacher.backbone.conv1.weight.grad is None
    assert torch.equal(
        model.teacher.backbone.conv1.weight,
        trained.teacher.backbone.conv1.weight,
    )


@pytest.mark.parametrize('name', ['HealthHook', 'DeferredScalarsHook'])
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_hooks_are_found_from_other_scopes(scope, name):
    pytest.importorskip(scope)
    registry = pytest.importorskip(f'{scope}.registry')
    with DefaultScope.overwrite_default_scope(scope):
        hook = registry.HOOKS.build(dict(type=f'mmpretrain.{name}'))
    assert type(hook).__module__.startswith('mmssd.')
