"""A table survives interruption, failure and a changed recipe."""

import csv
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmssd.apis import suites
from mmssd.apis.suite_tasks import SUITES, Task
from mmssd.apis.suites import (
    MODELS,
    Cell,
    Suite,
    epoch_rows,
    supervised_weights,
)
from mmssd.models.utils.plan import SetupError

ROOT = Path(__file__).parents[2]
# stands in for tools/train.py: what a run leaves, and how it fails
RUN = """
import json, pathlib, sys
folder, options = pathlib.Path(sys.argv[1]), sys.argv[2:]
with open(folder / 'calls.txt', 'a') as file:
    file.write('once' + chr(10))
print('2026/11/21 11:00:00 - mmengine - INFO - Iter(train) [1/4] eta: 0:03:00')
if (folder.parents[2] / 'fail').exists() and 'seed=1' in options[-1]:
    sys.exit('error: the disk is full')
log = folder / '2026/vis_data/scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
value = 0.5 if 'None' in options[0] else 0.7
value += 0.1 * int(options[-1][-1])
value = -1 if '/none/' in str(folder) else value
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
    assert '4 runs, 0 left of 0.0 min each, measured' in suite.plan()
    # what was given runs first, and is below in the table
    assert suite.said[0] == '[1/4] oss/det/split1_seed0'
    assert suite.said[1] == '    Iter(train) [1/4] eta: 0:03:00'
    # the next ones are foreseen by those that are finished
    assert suite.said[2].endswith(' left')


def test_a_single_run_has_no_spread(make):
    suite = make(seeds=1)
    assert suite.run()
    assert '| oss | 70.0 |' in (suite.work_dir / 'table.md').read_text()
    with open(suite.work_dir / 'table.csv') as file:
        row = list(csv.DictReader(file))[1]
    assert (float(row['AP50']), row['AP50 std']) == (pytest.approx(70), '')
    record = json.loads((suite.work_dir / 'table.json').read_text())
    found = record['rows'][1]['AP50']
    assert (found['n'], found['std']) == (1, None)
    assert (suite.work_dir / 'table.png').stat().st_size > 1000


def test_features_that_were_not_compared_are_said(make, monkeypatch):
    suite = make()
    statement = 'from a.pth, 5 of 5, features not compared (no, no config)'

    def prove(self):
        return statement if self.checkpoint else 'from random weights'

    monkeypatch.setattr(Cell, 'prove', prove)
    suite.check()
    assert suite.said == [f'oss/det: {statement}']  # once for both seeds
    assert suite.run()
    assert suite.said[1] == f'oss/det: {statement}'
    # a second task, of which more was proven, does not hide it
    path = suite.work_dir / 'oss/det/split1_seed0/result.json'
    result = json.loads(path.read_text())
    path.write_text(json.dumps(dict(result, initialisation=statement)))
    first = replace(suite.tasks[0], name='first', columns={'A': ('a', 1)})
    suite.tasks = (first, *suite.tasks)
    for cell in suite.cells():
        if cell.task is first and cell.row == 'oss':
            cell.folder.mkdir(parents=True)
            (cell.folder / 'result.json').write_text(
                json.dumps(
                    dict(
                        result,
                        recipe=cell.recipe(),
                        metrics=dict(a=1),
                        initialisation='from a.pth, equal features',
                    )
                )
            )
    suite.write()
    random, oss = (suite.work_dir / 'table.md').read_text().splitlines()[2:]
    assert random.endswith('| model.backbone.init_cfg=None |')
    assert oss.endswith('| from a.pth, features not compared (det) |')


def test_estimates_come_from_logs_then_from_what_is_assumed(make):
    suite = make()
    task = replace(suite.tasks[0], minutes=7.0)
    suite.tasks = (task,)
    assert '4 runs, 4 left of 7.0 min each, assumed' in suite.plan()
    assert 'in all about 28 min' in suite.plan()
    folder = suite.cells()[0].folder
    folder.mkdir(parents=True)
    (folder / 'seconds.json').write_text('60.0')
    (folder / 'output.txt').write_text(
        'Iter(train) [1/9] eta: 0:30:00\nIter(train) [2/9] eta: 0:04:30\n'
    )
    # a minute so far, and 4.5 to go
    assert '4 left of 5.5 min each, by the one that was begun' in suite.plan()
    (folder / 'output.txt').write_text('[2/9] eta: 1 day, 2:00:00')
    assert suite.cells()[0].projected() == 1 + 26 * 60
    assert '4 left of 26.0 h each' in suite.plan()
    assert 'in all about 104.1 h' in suite.plan()


def test_what_a_run_is_told(make, tmp_path):
    suite = make(part='teacher', gpus=4, data=Path('/d'), seeds=1)
    suite.rows['supervised'] = 'https://example.org/a.pth'
    suite.tasks = (
        replace(suite.tasks[0], data=('train.root={data}/x',)),
        replace(suite.tasks[0], name='knn', tool='knn', data=('b={data}',)),
    )
    told = {cell.name: cell for cell in suite.cells()}
    assert told['oss/det/split1_seed0'].options == (
        f'model.backbone.init_cfg.checkpoint={tmp_path / "student.pth"}',
        'model.backbone.init_cfg.prefix=teacher.backbone.',
        'train.root=/d/x',
        'randomness.seed=0',
    )
    # a network of another library has no teacher
    assert told['supervised/det/split1_seed0'].options[:2] == (
        'model.backbone.init_cfg.checkpoint=https://example.org/a.pth',
        'train.root=/d/x',
    )
    assert told['random/knn/split1_seed0'].options == ('b=/d',)
    assert {cell.gpus for cell in told.values()} == {1}  # no 8xb2
    undone = told['oss/knn/split1_seed0'], told['supervised/knn/split1_seed0']
    assert [cell.part for cell in undone] == ['teacher', 'student']


def test_command_lines(tmp_path):
    train = Task('a', 'x.py', {})
    knn = Task('a', 'x.py', {}, tool='knn', arguments=('--k', '1'))

    def command(task, checkpoint, **kwargs):
        cell = Cell(
            *('row', checkpoint, task, Path('x.py'), 1, 3, tmp_path),
            options=('seed=3',),
            **kwargs,
        )
        return ' '.join(cell.command()[3:]).replace(f'{suites.ROOT}/', '')

    work = f'--work-dir {tmp_path} --resume'
    assert command(train, None) == (
        f'tools/train.py x.py {work} --cfg-options seed=3'
    )
    assert command(train, None, gpus=8) == (
        '-m torch.distributed.run --standalone --nproc_per_node=8 '
        f'tools/train.py x.py {work} --launcher pytorch --cfg-options seed=3'
    )
    out = f'--out {tmp_path}/metrics.json --k 1 --cfg-options seed=3'
    assert command(knn, None) == (
        f'tools/analysis/knn.py x.py --init-seed 3 {out}'
    )
    assert command(knn, Path('s.pth'), part='teacher') == (
        f'tools/analysis/knn.py x.py s.pth --part teacher {out}'
    )


def test_probes_of_imagenet(tmp_path, monkeypatch):
    """Many images are read by many processes; SEED has 10 neighbours."""
    monkeypatch.setattr(suites, '_readers', lambda: 6)
    cells = {}
    for name in ('seed-table1', 'compress', 'demo'):
        suite = Suite(SUITES[name], {'random': None}, tmp_path)
        cells |= {(name, c.task.name): c for c in suite.cells()}
    said = {key: ' '.join(cell.command()) for key, cell in cells.items()}
    assert '--k 10 --num-workers 6' in said['seed-table1', 'k-nn']
    assert '--k 1 --majority --num-workers 6' in said['compress', '1-nn']
    assert '--num-workers 6' in said['compress', 'cluster-alignment']
    assert 'workers' not in said['demo', 'knn']
    task = cells['seed-table1', 'k-nn'].task
    assert task.columns == {'k-NN': ('top1_by_k.10', 1)}
    # it is no part of the recipe: another machine goes on
    recipe = cells['seed-table1', 'k-nn'].recipe()
    monkeypatch.setattr(suites, '_readers', lambda: 7)
    assert cells['seed-table1', 'k-nn'].recipe() == recipe


def test_readers_follow_the_cores(monkeypatch):
    monkeypatch.setattr(
        suites.os, 'sched_getaffinity', lambda _: set(range(4)), raising=False
    )
    assert suites._readers() == 4
    monkeypatch.setattr(
        suites.os, 'sched_getaffinity', lambda _: set(range(99))
    )
    assert suites._readers() == 16


def test_progress_of_probes_is_shown():
    line = 'Features(student) [1280/50000] eta: 1:02:03'
    assert suites.PROGRESS.search(line)
    assert suites.ETA.findall(line) == [('', '1', '02', '03')]


def test_several_draws_of_one_cell(make, tmp_path):
    """A probe's draws are values of their own, with a spread."""
    suite = make(seeds=1)
    columns = {'few': ('results.0:2.top1', 1), 'all': ('results.2.top1', 1)}
    suite.tasks = (
        Task('lin', suite.tasks[0].config, columns, tool='linear_probe'),
    )
    (cell, _) = suite.cells()
    cell.folder.mkdir(parents=True)
    results = [dict(top1=value) for value in (30.0, 40.0, 50.0)]
    path = cell.folder / 'metrics.json'
    path.write_text(json.dumps(dict(results=results)))
    metrics = suite._metrics(cell)
    assert metrics == {'results.0:2.top1': [30, 40], 'results.2.top1': 50}
    record = dict(
        recipe=cell.recipe(), metrics=metrics, minutes=1, initialisation='x'
    )
    (cell.folder / 'result.json').write_text(json.dumps(record))
    row = suite.table()[0]
    assert (row['few']['mean'], row['few']['n'], row['few']['of']) == (
        35,
        2,
        2,
    )
    assert row['few']['std'] == pytest.approx(50**0.5)
    assert (row['all']['mean'], row['all']['std']) == (50, None)
    path.write_text(json.dumps(dict(results=results[:1])))
    with pytest.raises(ValueError, match='only 1 results, not 2'):
        suite._metrics(cell)
    results[2]['top1'] = float('nan')
    path.write_text(json.dumps(dict(results=results)))
    with pytest.raises(ValueError, match='results.2.top1 is nan'):
        suite._metrics(cell)


def test_only_a_detector_may_have_no_metrics(make):
    """A segmenter without a number has failed; it has not found nothing."""
    suite = make(seeds=1)
    suite.tasks = (
        Task('nothing', suite.tasks[0].config, {'mIoU': ('mIoU', 1)}),
    )
    assert not suite.run()
    assert 'no metric mIoU among none at all' in suite.failed.popitem()[1]
    assert suite.table()[0]['mIoU'] is None


def test_rows_of_several_epochs(make, tmp_path):
    for epoch in (5, 10):
        (tmp_path / f'epoch_{epoch}.pth').write_bytes(b'x')
    rows = epoch_rows('oss', tmp_path, [10, 5])
    assert rows == {
        'oss@10': tmp_path / 'epoch_10.pth',
        'oss@5': tmp_path / 'epoch_5.pth',
    }
    with pytest.raises(FileNotFoundError, match='has the epochs 5, 10 '):
        epoch_rows('oss', tmp_path, [5, 7])
    suite = make(seeds=1)
    suite.rows |= rows
    assert suite.run()
    assert (suite.work_dir / 'epochs.png').stat().st_size > 1000


def test_supervised_weights_are_of_the_students_network():
    from mmengine.config import Config
    from mmpretrain.apis import ModelHub

    for student, name in MODELS.items():
        assert supervised_weights(student).startswith('https://')
        folder = ROOT / 'configs/_base_/transfer/students'
        ours = Config.fromfile(folder / f'{student}.py').student
        theirs = ModelHub.get(name).config.model.backbone
        assert ours.type.removeprefix('mmpretrain.') == theirs.type
        for key in ('depth', 'arch', 'embed_dims', 'tokens_norm'):
            assert ours.get(key) == theirs.get(key)
    with pytest.raises(ValueError, match='supervised=FILE'):
        supervised_weights('regnety-600mf')


def test_a_row_that_cannot_be_fetched(make, monkeypatch):
    def offline(path):
        raise OSError('no route to host')

    suite = make()
    suite.rows['supervised'] = 'https://example.org/a.pth'
    monkeypatch.setattr(suites, 'find_checkpoint', offline)
    with pytest.raises(OSError, match='no route.*supervised=FILE') as info:
        suite.rows.pop('oss')
        suite.run()
    assert 'row supervised' in str(info.value)
    assert calls(suite) == 0


def test_a_failing_run_does_not_stop_the_others(make):
    suite = make()
    suite.work_dir.mkdir()
    (suite.work_dir / 'fail').touch()
    assert not suite.run()
    assert calls(suite) == 4
    failures = [text for text in suite.said if text.startswith('no result')]
    assert len(failures) == 2
    assert 'oss/det/split1_seed1: error: the disk is full' in failures[0]
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
    assert '50.0 (1 of 2 runs)' in (suite.work_dir / 'table.md').read_text()
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
        (path.parent / 'epoch_1.pth').touch()
    other = make(seeds=1, options=('a=1', 'seed=0'))
    assert not other.run()
    assert 'was begun with another' in other.said[1]
    assert calls(other) == 2  # of the first ones


def test_a_first_mistake_does_not_lock_the_suite(make):
    """A run that saved nothing can be run anew with another recipe."""
    first = make(seeds=1)
    first.work_dir.mkdir()
    (first.work_dir / 'fail').touch()
    first.options = wrong = ('a=1', 'seed=1')  # what fails
    assert not first.run()
    folder = first.cells()[0].folder
    assert 'disk is full' in (folder / 'output.txt').read_text()
    (first.work_dir / 'fail').unlink()
    again = make(seeds=1, options=('a=2', 'seed=0'))
    assert again.options != wrong
    assert again.run()
    # nothing of the first start is left
    assert 'disk is full' not in (folder / 'output.txt').read_text()
    assert calls(again) == 2


def test_what_was_finished_stays_in_the_table(make, tmp_path):
    first = make(seeds=1)
    (det,) = first.tasks
    seg = Task('seg', det.config, {'mIoU': ('coco/bbox_mAP_50', 100)})
    both = (seg, det)
    first.others = both
    assert first.run()
    assert first.columns() == ['AP50']
    # another task and another row, in the same folder
    again = make(seeds=1)
    again.tasks, again.others = (seg,), both
    again.rows['new'] = again.rows['oss']
    del again.rows['random']
    assert again.run()
    assert again.columns() == ['mIoU', 'AP50']
    oss, new, random = again.table()
    assert [r['row'] for r in (oss, new, random)] == ['oss', 'new', 'random']
    assert oss['AP50']['mean'] == oss['mIoU']['mean'] == pytest.approx(70)
    assert (new['AP50'], random['mIoU']) == (None, None)
    assert random['AP50']['mean'] == pytest.approx(50)
    assert (random['AP50']['n'], random['AP50']['of']) == (1, 1)
    table = (again.work_dir / 'table.md').read_text()
    assert '| random | - | 50.0 |' in table
    # but not under the name of another checkpoint, nor of another student
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), other)
    again.rows = {'new': again.rows['new'], 'oss': other}
    again.tasks = (det,)
    assert again._earlier(seg).keys() == {'new'}
    student = tmp_path / 'large.py'
    student.write_text(Path(det.config).read_text())
    again.others = (replace(seg, config=str(student)), det)
    assert again.columns() == ['AP50']


def test_a_detector_that_finds_nothing_is_zero(make, tmp_path):
    suite = make(seeds=1)
    suite.rows['nothing'] = suite.rows['oss']
    assert suite.run()
    assert suite.table()[2]['AP50']['values'] == [0.0]
    assert '| nothing | 0.0 |' in (suite.work_dir / 'table.md').read_text()


def test_an_ap_without_objects_is_no_result(make):
    """COCO's -1: the images have no object; not -100 %."""
    suite = make(seeds=1)
    suite.rows['none'] = suite.rows['oss']
    assert not suite.run()
    (error,) = suite.failed.values()
    assert 'bbox_mAP_50 is -1.0: the images tested have no object' in error
    assert '| none | - |' in (suite.work_dir / 'table.md').read_text()


def test_bad_suites(make, tmp_path):
    task = Task('a', 'none_{student}.py', {})
    with pytest.raises(FileNotFoundError, match='none_resnet18') as info:
        Suite((task,), {'random': None}, tmp_path)
    assert "the student 'resnet18'" in str(info.value)
    assert 'there are' not in str(info.value)
    suite = make()
    with pytest.raises(ValueError, match='nothing to do'):
        Suite(suite.tasks, {}, tmp_path)
    with pytest.raises(ValueError, match='seeds=0'):
        make(seeds=0)
    with pytest.raises(ValueError, match="part='tutor'"):
        make(part='tutor')
    with pytest.raises(ValueError, match="row 'a/b'"):
        Suite(suite.tasks, {'a/b': None}, tmp_path)
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        Suite(suite.tasks, {'oss': Path('gone.pth')}, tmp_path)


def load_tool():
    path = ROOT / 'tools/benchmarks/transfer.py'
    spec = importlib.util.spec_from_file_location('transfer', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool_knows_where_the_data_are(tmp_path):
    tool, made = load_tool(), []

    class Recorded(Suite):
        def plan(self):
            made.append(self)
            return ''

        def problems(self):
            return []

    tool.Suite = Recorded
    base = ['demo', '--plan', '--work-dir', str(tmp_path)]
    tool.main(base)
    tool.main([*base, '--data', 'elsewhere'])
    for suite, data in zip(made, ('data/garments', 'elsewhere'), strict=True):
        detection, *_, linear = suite.cells()
        assert (
            f'train_dataloader.dataset.data_root={data}/multi/'
            in detection.options
        )
        assert f'val_evaluator.ann_file={data}/multi/instances_val.json' in (
            detection.options
        )
        # all labelled images, not the few of the probe while pretraining
        assert 'bank.subset=None' in linear.options
        assert f'query.data_root={data}' in linear.options


def test_tool_plans_and_refuses(tmp_path, capsys, monkeypatch):
    tool = load_tool()
    monkeypatch.setattr(Suite, 'problems', lambda self: [])
    base = ['oss-table3', '--work-dir', str(tmp_path), '--plan']
    assert tool.main(base) == 0
    said = capsys.readouterr().out
    # random, and mmpretrain's network trained with labels
    assert 'coco-1k: 10 runs, 10 left of 54 min each, assumed' in said
    assert 'its config is for 4 processes, and this is 1: --gpus 4' in said
    for wrong, message in (
        (['oss.pth'], 'expected NAME=FILE'),
        (['random=oss.pth'], "'random' being taken"),
        (['oss=gone.pth'], 'gone.pth not found'),
        (['--tasks', 'none'], 'has coco-10k, coco-1k, voc07, voc12'),
        (['--student', 'alexnet'], "the student 'alexnet'"),
        (['--no-random', '--no-supervised'], 'no checkpoints'),
        (['oss=x', '--epochs', '3'], 'x has the epochs none'),
        (['--data', 'd'], 'lie where the configs say, below data/: link'),
        (['--gpus', '0'], 'gpus=0'),
    ):
        with pytest.raises(SystemExit) as info:
            tool.main([*base, *wrong])
        assert info.value.code == 1
        assert message in capsys.readouterr().err


def rows_of(tool, tmp_path, *arguments):
    made = []

    class Recorded(Suite):
        def plan(self):
            made.append(self)
            return super().plan()

        def problems(self):
            return []  # this is about the rows, not their weights

    tool.Suite = Recorded
    work_dir = ['--work-dir', str(tmp_path)]
    tool.main([*arguments, '--plan', *work_dir])
    return list(made[-1].rows)


def write_student(path, **changes):
    """Write a ResNet-18's weights: shapes, all one number."""
    from mmpretrain.registry import MODELS

    network = MODELS.build(dict(type='ResNet', depth=18, **changes))
    state = {
        f'backbone.{key}': torch.ones((), dtype=value.dtype).expand(
            value.shape
        )
        for key, value in network.state_dict().items()
    }
    torch.save(dict(state_dict=state), path)
    return path


def test_every_checkpoint_is_proven_before_anything_runs(
    tmp_path, capsys, monkeypatch
):
    def run(self, cell):
        raise AssertionError('nothing may run')

    monkeypatch.setattr(Suite, '_run_cell', run)
    write_student(tmp_path / 'good.pth')
    write_student(tmp_path / 'thin.pth', base_channels=32)
    torch.save(dict(state_dict={'a': torch.ones(1)}), tmp_path / 'bare.pth')
    (tmp_path / 'junk.pth').write_bytes(b'x')
    names = ('good', 'thin', 'bare', 'junk')
    rows = [f'{name}={tmp_path}/{name}.pth' for name in names]
    work_dir = tmp_path / 'work'
    # a probe and a training
    base = ['seed-table1', '--no-supervised', '--work-dir', str(work_dir)]
    tool = load_tool()

    def refused(*arguments):
        with pytest.raises(SystemExit) as info:
            tool.main([*base, *arguments])
        assert info.value.code == 1
        said, error = capsys.readouterr()
        assert 'not every checkpoint fits' in error
        assert 'NAME=FILE, another --student' in error
        assert 'init_cfg' not in error  # the remedy of a single run
        assert not list(work_dir.glob('*/*/*'))
        return said, error

    said, error = refused(*rows, '--plan')
    assert 'k-nn: 5 runs, 5 left' in said
    for name in names[1:]:
        for task in ('k-nn', 'linear-seed'):
            assert f'{name}/{task}' in error
    assert 'wrong shape(s)' in error
    assert 'good/' not in error and 'random/' not in error
    # without --plan; and the part that is asked for
    only = ['--no-random', '--tasks']
    assert 'bare/k-nn' in refused(rows[2], *only, 'k-nn')[1]
    chosen = [rows[0], *only, 'linear-seed']
    error = refused(*chosen, '--part', 'teacher')[1]
    assert 'good/linear-seed: the weights do not reach' in error
    assert "no key that begins with 'teacher.backbone.'" in error
    assert tool.main([*base, *chosen, '--plan']) == 0
    # it fits, but the file does not say which network it is of
    (line,) = (
        line
        for line in capsys.readouterr().out.splitlines()
        if 'features not compared' in line
    )
    assert line.startswith(f'good/linear-seed: backbone from {tmp_path}/good')


@pytest.mark.parametrize('student', ['vit-tiny', 'xcit-tiny'])
def test_transformers_of_dino_fit_their_probes(student, tmp_path):
    from mmpretrain.registry import MODELS

    from mmssd.apis.config import load_config

    config = load_config(
        ROOT / f'configs/baselines/dino_{student}_8xb64-coslr-100e_in1k.py'
    )
    state = MODELS.build(config.model.backbone).state_dict()
    path = tmp_path / 'dino.pth'
    torch.save({f'backbone.{key}': v for key, v in state.items()}, path)
    suite = Suite(
        SUITES['linear-dino'], {'dino': path}, tmp_path, student=student
    )
    assert suite.problems() == []


def test_what_cannot_be_proven_yet_is_not_downloaded(make, monkeypatch):
    suite = make(seeds=1)
    suite.rows['supervised'] = 'https://example.org/never-there.pth'
    proven = []
    monkeypatch.setattr(
        Cell, 'prove', lambda self: proven.append(self.row) or ''
    )
    assert suite.problems() == []
    assert proven == ['random', 'oss']


def test_no_row_has_seen_labels_that_the_others_lack(tmp_path, capsys):
    tool = load_tool()
    for suite, why in (
        ('oss-table2', 'the row random of oss-table2'),
        ('oss-table6', 'of 1percent, 10percent: none, its network has seen'),
        ('disco-semi', 'seen all labels'),
        ('linear-visual-priors', 'has seen other images'),
    ):
        student = 'resnet50' if 'priors' in suite else 'resnet18'
        chosen = [suite, '--student', student]
        assert rows_of(tool, tmp_path, *chosen) == ['random']
        said = capsys.readouterr().out
        assert 'row supervised of ' in said and why in said
    # one that is asked for is there, and the plan says what it is
    (tmp_path / 'a.pth').write_bytes(b'x')
    given = f'supervised={tmp_path}/a.pth'
    assert 'supervised' in rows_of(tool, tmp_path, 'oss-table2', given)
    assert '1percent, 10percent: not fair: its' in capsys.readouterr().out
    # the features of all networks, and all labels
    linear = ['oss-table6', '--tasks', 'linear-oss']
    assert rows_of(tool, tmp_path, *linear) == ['random', 'supervised']
    assert 'row supervised' not in capsys.readouterr().out


def test_the_plan_says_why_a_student_has_no_supervised_row(tmp_path, capsys):
    tool = load_tool()
    base = ['linear-oss', '--student']
    why = (
        'row supervised: mmpretrain has no network of regnety-600mf trained '
        'with labels; give supervised=FILE\n'
    )
    assert rows_of(tool, tmp_path, *base, 'regnety-600mf') == ['random']
    assert why in capsys.readouterr().out
    (tmp_path / 'a.pth').write_bytes(b'x')
    given = f'supervised={tmp_path}/a.pth'
    rows = rows_of(tool, tmp_path, *base, 'regnety-600mf', given)
    assert rows == ['random', 'supervised']
    assert 'mmpretrain has no' not in capsys.readouterr().out
    # it is left out, not missing
    asked = [*base, 'mobilenet-v2', '--no-supervised']
    assert rows_of(tool, tmp_path, *asked) == ['random']
    assert 'row supervised' not in capsys.readouterr().out


def test_a_url_stays_one(tmp_path):
    tool = load_tool()
    url = 'https://example.org/a//b.pth'
    made = []
    tool.Suite = lambda *args: made.append(args)
    for row in ('oss', 'supervised'):
        args = ['linear-oss', f'{row}={url}', '--plan']
        with pytest.raises(AttributeError):  # there is no suite
            tool.main([*args, '--work-dir', str(tmp_path)])
        assert made[-1][1][row] == url
    suite = Suite(SUITES['linear-oss'], {'oss': url}, tmp_path)
    assert f'model.backbone.init_cfg.checkpoint={url}' in (
        suite.cells()[0].options
    )


def test_visual_priors_are_probed_on_few_images():
    from mmssd.apis.config import load_config

    (task,) = SUITES['linear-visual-priors']
    config = load_config(
        ROOT / 'configs' / task.config.format(student='resnet50')
    )
    assert config.train_dataloader.dataset.data_root == 'data/vipriors'
    assert config.optim_wrapper.optimizer.lr == 30
    assert list(task.columns) == ['VIPriors val top-1', 'VIPriors val top-5']


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
    with pytest.raises(SetupError, match='nothing was run') as info:
        suite.run()
    assert 'other/linear: the weights do not reach' in str(info.value)
    assert 'student/linear' not in str(info.value)
    del rows['other']
    suite = Suite((task,), rows, tmp_path / 'work', say=said.append)
    assert suite.run()
    random, student = suite.table()
    assert 'init_cfg=None' in random['initialisation']
    assert f'backbone from {good}' in student['initialisation']
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


@pytest.fixture(scope='module')
def miniature(tmp_path_factory):
    """Garment scenes of rectangles, and a student of the demo."""
    import numpy as np
    from mmpretrain.registry import MODELS

    from mmssd.apis.config import load_config
    from mmssd.datasets.fashion_mnist import CLASSES, FashionMNISTArrays
    from mmssd.datasets.garment_scenes import make_garment_scenes

    pytest.importorskip('skimage')
    folder = tmp_path_factory.mktemp('demo')

    def squares(n):
        images = np.zeros((n, 28, 28), np.uint8)
        for index, image in enumerate(images):
            image[4 : 14 + index % 10, 4:20] = 100 + index
        return images, np.arange(n, dtype=np.uint8) % 10

    make_garment_scenes(
        folder / 'garments',
        FashionMNISTArrays(*squares(100), *squares(40), classes=CLASSES),
        single=(2_000, 100),
        multi=(16, 6),
        num_workers=1,
    )
    config = load_config(ROOT / 'configs' / SUITES['demo'][-1].config)
    backbone = MODELS.build(config.model.backbone)
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    meta = dict(cfg=config.pretty_text)
    torch.save(dict(meta=meta, state_dict=state), folder / 'oss.pth')
    return folder


def demo_suite(folder, work_dir, tasks, options=()):
    return Suite(
        tuple(task for task in SUITES['demo'] if task.name in tasks),
        {'oss': folder / 'oss.pth'},
        work_dir,
        options=(
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.logger.interval=1',
            'train_dataloader.batch_size=2',
            *options,
        ),
        data=folder / 'garments',
        say=lambda text: None,
    )


@pytest.mark.slow
def test_the_demo_suite_in_miniature(miniature, tmp_path):
    for scope in ('mmdet', 'mmseg'):
        pytest.importorskip(scope)
    names = ('detection', 'instance', 'semantic', 'knn', 'linear')
    suite = demo_suite(miniature, tmp_path, names)
    assert suite.run(), suite.failed
    (row,) = suite.table()
    for column in suite.columns():
        assert 0 <= row[column]['mean'] <= 100, column
    assert row['linear 1 %']['n'] == row['linear 10 %']['n'] == 5
    assert row['linear']['n'] == 1
    for task in names:
        assert 'oss.pth' in row['initialisations'][task]
    assert set(row['initialisations']) == set(names)
    again = demo_suite(miniature, tmp_path, names)
    assert again.plan().count(', 0 left') == len(names)


@pytest.mark.slow
def test_networks_that_find_nothing_have_0(miniature, tmp_path):
    pytest.importorskip('mmdet')
    suite = demo_suite(
        miniature,
        tmp_path,
        ('detection', 'instance'),
        ['model.test_cfg.rcnn.score_thr=2.0'],  # no score is above
    )
    assert suite.run(), suite.failed
    (row,) = suite.table()
    assert {row[column]['mean'] for column in suite.columns()} == {0.0}
