"""Published checkpoints become files of this package, or are refused."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmpretrain.models.backbones import ResNet
from torch import nn

from mmssd.apis.convert import convert_checkpoint, teacher_config
from mmssd.apis.export import export_backbone
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck
from mmssd.models.utils.input_statistics import InputStatistics

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/model_converters/to_mmssd.py'
SWAV = """
tiny_swav = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(type='DropoutProjectionNeck', in_channels=64, hid_channels=6,
              out_channels=5),
    checkpoint='checkpoints/none.pth',
    layout='swav',
    extra_keys=dict(prototypes='prototypes.weight'),
    mean=[123.675, 116.28, 103.53],
    std=[58.14, 57.12, 57.375],
    channel_order='RGB',
)
"""


def tool():
    spec = importlib.util.spec_from_file_location('to_mmssd', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def backbone():
    return ResNet(18, stem_channels=8, base_channels=8)


def random(module, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 0.1 + torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in module.state_dict().items()
    }


@pytest.fixture
def published(tmp_path):
    """A file of SwAV, and a fragment that describes it."""
    weights = random(backbone(), 1)
    head = random(
        nn.Sequential(
            nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5)
        ),
        2,
    )
    content = {
        **{f'module.{key}': value for key, value in weights.items()},
        **{f'module.projection_head.{k}': v for k, v in head.items()},
        'module.prototypes.weight': torch.eye(9, 5),
    }
    torch.save(content, tmp_path / 'swav.pth.tar')
    (tmp_path / 'fragment.py').write_text(SWAV)
    return tmp_path, weights, head


def test_the_file_is_ours(published):
    folder, weights, head = published
    done = convert_checkpoint(
        folder / 'swav.pth.tar', folder / 'ours.pth', folder / 'fragment.py'
    )
    assert done.layout == 'swav' and done.difference == 0
    assert done.unused == ''
    written = torch.load(folder / 'ours.pth', weights_only=True)['state_dict']
    assert done.keys == len(written) == len(weights) + len(head) + 1
    for key, value in weights.items():
        assert torch.equal(written[f'backbone.{key}'], value)
    names = {'0': 'fc0', '1': 'bn0', '3': 'fc1'}
    for key, value in head.items():
        number, _, rest = key.partition('.')
        assert torch.equal(written[f'neck.{names[number]}.{rest}'], value)
    # a teacher reads it by default, prototypes included
    teacher = Teacher(
        backbone(),
        DropoutProjectionNeck(64, 6, 5),
        checkpoint=str(folder / 'ours.pth'),
        extra_keys=dict(prototypes='prototypes.weight'),
    )
    teacher.init_weights()
    assert torch.equal(teacher.extra('prototypes'), torch.eye(9, 5))
    # and the input statistics are known from now on
    teacher.match_input(InputStatistics((0, 0, 0), (255, 255, 255), 'RGB'))
    with pytest.raises(ValueError, match=r'teacher\.std=\[58\.14, 57\.12'):
        teacher.load()


def test_other_tools_read_it(published):
    folder, weights, _ = published
    convert_checkpoint(
        folder / 'swav.pth.tar',
        folder / 'ours.pth',
        folder / 'fragment.py',
        with_neck=False,
    )
    written = torch.load(folder / 'ours.pth', weights_only=True)['state_dict']
    assert not any(key.startswith('neck.') for key in written)
    export_backbone(
        folder / 'ours.pth', folder / 'flat.pth', layout='torchvision'
    )
    flat = torch.load(folder / 'flat.pth', weights_only=True)
    assert all(torch.equal(flat[key], weights[key]) for key in weights)


def test_the_student_of_a_run_of_seed(published, capsys):
    folder, weights, _ = published
    teacher = random(backbone(), 4)
    content = dict(
        state_dict={
            **{f'module.student.{k}': v for k, v in weights.items()},
            'module.student.fc.weight': torch.ones(5, 64),
            **{f'module.teacher.{k}': v for k, v in teacher.items()},
            'module.queue': torch.ones(5, 3),
        }
    )
    torch.save(content, folder / 'seed.pth.tar')
    (folder / 'config.py').write_text(
        'model = dict(backbone=dict(type="ResNet", depth=18, '
        'stem_channels=8, base_channels=8))'
    )
    tool().main(
        [
            str(folder / 'seed.pth.tar'),
            str(folder / 'student.pth'),
            str(folder / 'config.py'),
            '--network',
            'student',
        ]
    )
    said = capsys.readouterr().out
    assert f'student.pth: {len(weights)} tensors from layout seed' in said
    assert 'not converted: student.* (1), teacher.* (' in said
    written = torch.load(folder / 'student.pth', weights_only=True)
    for key, value in weights.items():
        assert torch.equal(written['state_dict'][f'backbone.{key}'], value)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (dict(layout='moco'), "it looks like layout='swav' (SwAV)"),
        (dict(source='none.pth'), 'none.pth not found'),
        (dict(target='no/folder.pth'), 'no does not exist'),
        (dict(target='taken.pth'), 'taken.pth exists: --force replaces it'),
        (dict(config='none.py'), 'none.py does not exist'),
        (dict(config='empty.py'), "no setting dict(type='Teacher', ...)"),
        (dict(config='two.py'), "several teachers ['a', 'tiny_swav']"),
        (dict(network='student'), 'has no model.backbone'),
    ],
)
def test_refused_in_one_sentence(published, change, said, capsys):
    folder, *_ = published
    (folder / 'taken.pth').write_text('mine')
    (folder / 'empty.py').write_text('data = 1')
    (folder / 'two.py').write_text(SWAV + 'a = dict(type="Teacher")')
    args = dict(source='swav.pth.tar', target='ours.pth', config='fragment.py')
    options = []
    for name, value in change.items():
        if name in args:
            args[name] = value
        else:
            options += [f'--{name}', value]
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(SystemExit) as ended:
        tool().main([*(str(folder / v) for v in args.values()), *options])
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith('error: ') and said in message
    assert sorted(p.name for p in folder.iterdir()) == before
    assert (folder / 'taken.pth').read_text() == 'mine'


def test_a_changed_output_is_refused(published, monkeypatch):
    folder, *_ = published
    drawn = iter([0.0, 1.0])
    monkeypatch.setattr(
        'mmssd.apis.convert._outputs',
        lambda teacher: [torch.full((1,), next(drawn))],
    )
    with pytest.raises(ValueError, match='differ by 1 from those of'):
        convert_checkpoint(
            folder / 'swav.pth.tar',
            folder / 'ours.pth',
            folder / 'fragment.py',
        )
    assert not (folder / 'ours.pth').exists()


def test_the_teacher_of_a_config():
    model = dict(teacher=dict(backbone=dict(type='ResNet', depth=18)))
    assert teacher_config(dict(model=model)) == model['teacher']
