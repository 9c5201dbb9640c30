"""A table survives interruption, failure and a changed recipe."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from mmssd.apis import suites
from mmssd.apis.suites import SUITES, Cell, Suite, Task
from mmssd.models.utils.plan import SetupError

ROOT = Path(__file__).parents[2]
STUDENTS = (
    *('resnet18', 'resnet34', 'mobilenet-v2', 'mobilenet-v3-large'),
    *('efficientnet-b0', 'efficientnet-b1', 'regnety-600mf'),
)
# stands in for tools/train.py: what a run leaves, and how it fails
RUN = """
import json, pathlib, sys
folder, options = pathlib.Path(sys.argv[1]), sys.argv[2:]
with open(folder / 'calls.txt', 'a') as file:
    file.write('once' + chr(10))
if (folder.parents[2] / 'fail').exists() and 'seed=1' in options[-1]:
    sys.exit('error: the disk is full')
log = folder / '2026/vis_data/scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
value = 0.5 if 'None' in options[0] else 0.7
value += 0.1 * int(options[-1][-1])
metrics = {} if 'nothing' in str(folder) else {'coco/bbox_mAP_50': value}
log.write_text(json.dumps(dict(metrics, time=1.0, step=3)))
log.parents[1].joinpath('a.log').write_text(
    'INFO - initialisation: ' + options[0] + ', 5 tensors' + chr(10))
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    config = tmp_path / 'tiny.py'
    config.write_text("default_scope = 'mmpretrain'\n")
    student = tmp_path / 'student.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), student)
    script = tmp_path / 'run.py'
    script.write_text(RUN)

    def command(self):
        return [sys.executable, str(script), str(self.folder), *self.options]

    monkeypatch.setattr(Cell, 'command', command)
    suites._config_text.cache_clear()
    suites._hash.cache_clear()

    def make(seeds=2, **kwargs):
        task = Task('det', str(config), {'AP50': ('coco/bbox_mAP_50', 100)})
        said = []
        suite = Suite(
            (task,),
            {'random': None, 'oss': student},
            tmp_path / 'work',
            seeds=seeds,
            say=said.append,
            **kwargs,
        )
        suite.said = said
        return suite

    return make


def calls(suite):
    return sum(
        len(path.read_text().split())
        for path in suite.work_dir.glob('*/*/*/calls.txt')
    )


def test_fills_the_table(make):
    suite = make()
    assert '4 left' in suite.plan()
    assert 'time not known before the first one' in suite.plan()
    assert suite.run()
    # 50 and 60; 70 and 80: spread of the sample 10 / sqrt(2)
    random, oss = suite.table()
    assert random['AP50']['mean'] == pytest.approx(55)
    assert oss['AP50']['std'] == pytest.approx(50**0.5)
    assert (oss['AP50']['n'], oss['AP50']['of']) == (2, 2)
    assert oss['initialisation'].startswith(
        'model.backbone.init_cfg.checkpoint='
    )
    text = (suite.work_dir / 'table.md').read_text()
    assert '| random | 55.0 ± 7.1 | model.backbone.init_cfg=None |' in text
    with open(suite.work_dir / 'table.csv') as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]['AP50']) == pytest.approx(75)
    assert float(rows[1]['AP50 std']) == pytest.approx(50**0.5)
    record = json.loads((suite.work_dir / 'table.json').read_text())
    assert record['rows'][0]['AP50']['values'] == pytest.approx([50, 60])
    assert (suite.work_dir / 'table.png').stat().st_size > 1000
    assert '0 left, about 0 min' in suite.plan()


def test_a_failing_run_does_not_stop_the_others(make):
    suite = make()
    suite.work_dir.mkdir()
    (suite.work_dir / 'fail').touch()
    assert not suite.run()
    assert calls(suite) == 4
    failures = [text for text in suite.said if text.startswith('no result')]
    assert len(failures) == 2
    assert 'random/det/split1_seed1: error: the disk is full' in failures[0]
    assert '50.0 (1 of 2 runs)' in (suite.work_dir / 'table.md').read_text()
    # once more, without the trouble: only what is missing
    (suite.work_dir / 'fail').unlink()
    again = make()
    assert again.run()
    assert calls(again) == 6
    assert again.table()[0]['AP50']['n'] == 2


def test_an_interrupted_suite_goes_on(make, monkeypatch):
    suite = make()
    run_cell = Suite._run_cell

    def interrupted(self, cell):
        if calls(self) == 3:
            raise KeyboardInterrupt
        return run_cell(self, cell)

    with monkeypatch.context() as patch:
        patch.setattr(Suite, '_run_cell', interrupted)
        with pytest.raises(KeyboardInterrupt):
            suite.run()
    assert '1 left' in suite.plan()
    assert '70.0 (1 of 2 runs)' in (suite.work_dir / 'table.md').read_text()
    again = make()
    assert again.run()
    assert calls(again) == 4


def test_another_recipe_is_refused(make):
    make(seeds=1).run()
    other = make(seeds=1, options=('a=1', 'seed=0'))
    with pytest.raises(SetupError, match='another checkpoint, config or opt'):
        other.run()
    begun = make(seeds=1)
    for path in begun.work_dir.glob('*/*/*/result.json'):
        path.unlink()
    other = make(seeds=1, options=('a=1', 'seed=0'))
    assert not other.run()
    assert 'was begun with another' in other.said[1]


def test_a_detector_that_finds_nothing_is_zero(make, tmp_path):
    suite = make(seeds=1)
    suite.rows['nothing'] = suite.rows['oss']
    assert suite.run()
    assert suite.table()[2]['AP50']['values'] == [0.0]
    assert '| nothing | 0.0 |' in (suite.work_dir / 'table.md').read_text()


def test_bad_suites(make, tmp_path):
    task = Task('a', 'none_{student}.py', {})
    with pytest.raises(FileNotFoundError, match="'resnet18'.*none_resnet18"):
        Suite((task,), {'random': None}, tmp_path)
    suite = make()
    with pytest.raises(ValueError, match='nothing to do'):
        Suite(suite.tasks, {}, tmp_path)
    with pytest.raises(ValueError, match='seeds=0'):
        make(seeds=0)
    with pytest.raises(ValueError, match="row 'a/b'"):
        Suite(suite.tasks, {'a/b': None}, tmp_path)
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        Suite(suite.tasks, {'oss': Path('gone.pth')}, tmp_path)


@pytest.mark.parametrize('name', sorted(SUITES))
def test_suites_name_configs_that_are_there(name, tmp_path):
    found = []
    for student in STUDENTS:
        try:
            suite = Suite(
                SUITES[name], {'random': None}, tmp_path, student=student
            )
        except FileNotFoundError:
            continue
        found.append(student)
        columns = suite.columns()
        assert len(set(columns)) == len(columns)
    assert 'resnet18' in found
    if name == 'oss-table3':
        assert found == list(STUDENTS)
        assert len(suite.cells()) == 1 + 5 + 5 + 1
        options = [cell.options[0] for cell in suite.cells()[1:6]]
        assert options[4].endswith('train2017_1k_5.json')


def load_tool():
    path = ROOT / 'tools/benchmarks/transfer.py'
    spec = importlib.util.spec_from_file_location('transfer', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool_plans_and_refuses(tmp_path, capsys):
    tool = load_tool()
    base = ['oss-table3', '--work-dir', str(tmp_path), '--plan']
    assert tool.main(base) == 0
    said = capsys.readouterr().out
    assert 'coco-1k: 5 runs, 5 left' in said
    assert 'in all about 0 min and 12 runs of unknown length' in said
    for wrong, message in (
        (['oss.pth'], 'expected NAME=FILE'),
        (['random=oss.pth'], "'random' being taken"),
        (['oss=gone.pth'], 'gone.pth not found'),
        (['--tasks', 'none'], 'has coco-10k, coco-1k, voc07, voc12'),
        (['--student', 'alexnet'], "the student 'alexnet'"),
        (['--no-random'], 'no checkpoints'),
    ):
        with pytest.raises(SystemExit) as info:
            tool.main([*base, *wrong])
        assert info.value.code == 1
        assert message in capsys.readouterr().err


TINY = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmssd'], allow_failed_imports=False)
model = dict(
    type='FrozenClassifier',
    backbone=dict(
        type='ResNet', depth=18, stem_channels=4, base_channels=4,
        init_cfg=dict(
            type='Pretrained', checkpoint='student.pth',
            prefix='backbone.')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
data_preprocessor = dict(mean=[128] * 3, std=[64] * 3)
dataset = dict(
    type='CustomDataset', data_root={root!r},
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
custom_hooks = [dict(type='FrozenBackboneHook')]
"""


@pytest.mark.slow
def test_a_suite_of_real_runs(tmp_path):
    from mmpretrain.registry import MODELS
    from PIL import Image

    for index in range(8):
        path = tmp_path / 'images' / 'ab'[index % 2] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32), (30 * index,) * 3).save(path)
    config = tmp_path / 'tiny.py'
    config.write_text(TINY.format(root=str(tmp_path / 'images')))
    backbone = MODELS.build(
        dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
    )
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    good, other = tmp_path / 'student.pth', tmp_path / 'other.pth'
    torch.save(dict(state_dict=state), good)
    torch.save(dict(state_dict={'backbone.a': torch.zeros(1)}), other)
    task = Task('linear', str(config), {'top-1': ('accuracy/top1', 1)})
    rows = {'random': None, 'student': good, 'other': other}
    said = []
    suite = Suite((task,), rows, tmp_path / 'work', say=said.append)
    assert not suite.run()
    # the transfer that did not take place has no result
    (failure,) = suite.failed.values()
    assert 'error: the weights do not reach the network' in failure
    random, student, missing = suite.table()
    assert 'init_cfg=None' in random['initialisation']
    assert f'backbone from {good}' in student['initialisation']
    assert missing['top-1'] is None
    for row in (random, student):
        assert 0 <= row['top-1']['mean'] <= 100
    again = Suite(
        (task,),
        {'random': None, 'student': good},
        tmp_path / 'work',
        say=said.append,
    )
    assert '0 left' in again.plan()
    assert again.run()
