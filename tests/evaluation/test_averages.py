"""Averages of logs as mmengine writes them."""

import importlib.util
import json
from pathlib import Path

import pytest

from mmssd.evaluation.averages import (
    average_metrics,
    initialisation,
    last_metrics,
)

AP = 'coco/bbox_mAP_50'


def write_run(folder, *starts, said='backbone from student.pth'):
    for number, records in enumerate(starts):
        log = folder / f'2026010{number + 1}_000000/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(json.dumps(record) for record in records))
        if said:
            text = f'2026 - mmengine - INFO - initialisation: {said}\n'
            (log.parents[1] / 'run.log').write_text(f'start\n{text}end\n')
            said = f'resumed; the run began with: {said}'
    return folder


TRAIN = dict(lr=0.1, loss=2.0, time=1, epoch=1, iter=7, step=7)


def val(step, **metrics):
    return dict(**metrics, data_time=0.1, time=0.2, step=step)


def test_the_last_validation_of_the_last_start(tmp_path):
    run = write_run(
        tmp_path / 'run',
        [TRAIN, val(1, **{AP: 0.1}), TRAIN, val(2, **{AP: 0.3})],
        [TRAIN, val(3, **{AP: 0.2, 'coco/segm_mAP_50': 0.15}), TRAIN],
    )
    assert last_metrics(run) == {AP: 0.2, 'coco/segm_mAP_50': 0.15}
    assert initialisation(run) == 'backbone from student.pth'
    assert initialisation(tmp_path) is None
    out = tmp_path / 'metrics.json'
    out.write_text(json.dumps({AP: 0.4, 'name': 'x'}))
    assert last_metrics(out) == {AP: 0.4}


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no run'):
        last_metrics(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match='has no log'):
        last_metrics(tmp_path)
    run = write_run(tmp_path / 'run', [TRAIN])
    with pytest.raises(ValueError, match='never validated'):
        last_metrics(run)


def test_mean_and_spread():
    # 1, 2, 6: mean 3, variance (4 + 1 + 9) / 2 = 7
    found = average_metrics([{'a': 1.0}, {'a': 2.0}, {'a': 6.0}])['a']
    assert found['mean'] == 3
    assert found['std'] == pytest.approx(7**0.5)
    assert (found['min'], found['max'], found['n']) == (1, 6, 3)
    assert found['values'] == [1, 2, 6]
    assert average_metrics([{'a': 5.0}])['a']['std'] == 0


def test_a_detector_that_finds_nothing_counts_as_zero():
    found = average_metrics([{AP: 0.3}, {}, {AP: 0.6}])
    assert found[AP]['values'] == [0.3, 0.0, 0.6]
    assert found[AP]['mean'] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="run 2 has no 'accuracy/top1'"):
        average_metrics([{'accuracy/top1': 3.0}, {}])
    with pytest.raises(ValueError, match="run 2 has no 'mIoU'"):
        average_metrics([{'mIoU': 3.0}, {AP: 1.0}])
    with pytest.raises(ValueError, match='not one run has a metric'):
        average_metrics([{}, {}])


def test_tool(tmp_path, capsys):
    path = Path(__file__).parents[2] / 'tools/analysis/average_runs.py'
    spec = importlib.util.spec_from_file_location('average_runs', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    runs = [
        str(write_run(tmp_path / name, [val(1, **{AP: value, 'b': 1})]))
        for name, value in (('x', 0.25), ('y', 0.35))
    ]
    out = tmp_path / 'out/averages.json'
    tool.main([*runs, '--metrics', AP, '--out', str(out)])
    said = capsys.readouterr().out
    assert f'{runs[0]}: backbone from student.pth' in said
    assert f'{AP}: 0.3 +- 0.071 (2 runs: 0.25, 0.35)' in said
    record = json.loads(out.read_text())
    assert list(record['averages']) == [AP]
    with pytest.raises(SystemExit):
        tool.main([*runs, '--metrics', 'none'])
    assert f'the runs have {AP}, b' in capsys.readouterr().err
