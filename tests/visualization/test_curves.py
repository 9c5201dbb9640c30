"""Logs read as curves, and drawn."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmssd.visualization.curves import (
    choose_keys,
    plot_curves,
    read_curves,
    smooth,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis/curves.py'
    spec = importlib.util.spec_from_file_location('curves', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, records):
    folder = folder / 'vis_data'
    folder.mkdir(parents=True)
    lines = [json.dumps(record) for record in records]
    (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')


def train(iteration, loss, time=6.0):
    return dict(loss=loss, lr=0.1, time=time, iter=iteration, step=iteration)


@pytest.fixture
def run(tmp_path):
    """A run that probes at 0 and 20, was interrupted and went on at 20."""
    folder = tmp_path / 'oss'
    write(
        folder / '20260101_000000',
        [
            {'knn/top1': 10.0, 'step': 0},
            train(10, 4.0),
            {'knn/top1': 20.0, 'step': 20},
            train(20, 3.0),
            train(30, 9.0),
        ],
    )
    write(
        folder / '20260102_000000',
        [
            train(30, 2.0, time=12.0),
            train(40, 1.0, time=12.0),
            # of an epoch's validation: the step counts epochs
            {'accuracy/top1': 50.0, 'time': 0.5, 'step': 1},
        ],
    )
    return folder


def test_a_resumed_run_reads_as_one(run):
    curves = read_curves(run)
    # ten iterations of 6 s, then of 12 s, are 1 and 2 minutes
    assert curves['loss'] == [
        (10, 1, 4.0, True),
        (20, 2, 3.0, True),
        (30, 4, 2.0, True),
        (40, 6, 1.0, True),
    ]
    assert curves['knn/top1'] == [(0, 0, 10.0, False), (20, 1, 20.0, False)]
    assert [p.value for p in curves['time']] == [6, 6, 12, 12]
    assert curves['accuracy/top1'] == [(40, 6, 50.0, False)]
    assert set(curves) == {'loss', 'lr', 'time', 'knn/top1', 'accuracy/top1'}


def test_keys_by_pattern(run):
    runs = {'a': read_curves(run)}
    assert choose_keys(runs, ['lo*', '*top1', 'loss']) == [
        'loss',
        'accuracy/top1',
        'knn/top1',
    ]
    with pytest.raises(ValueError, match="no run logged 'los'; there are acc"):
        choose_keys(runs, ['los'])


def test_smoothing_by_hand():
    values = [3.0, 0.0, 6.0, 3.0, 0.0]
    np.testing.assert_allclose(smooth(values, 3), [3, 3, 3, 3, 0])
    # as far as both sides reach: 1, 3, 5, 3, 1 records
    np.testing.assert_allclose(smooth(values, 9), [3, 3, 2.4, 3, 0])
    line = np.arange(8.0)
    np.testing.assert_allclose(smooth(line, 5), line)
    np.testing.assert_allclose(smooth(values, 1), values)


def test_draws_panels(tool, run, tmp_path, capsys, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        'mmssd.visualization.curves.draw_lines',
        lambda panels, *rest: drawn.update(panels=panels, rest=rest),
    )
    runs = {'a': read_curves(run)}
    plot_curves(
        runs, ['loss', 'knn/top1', 'time'], 'x.png', 'minutes', True, 3
    )
    label, lines = drawn['panels']['loss']
    assert label == 'loss, mean of 3 records'
    x, raw, smoothed = lines['a']
    assert x == [1, 2, 4, 6] and raw == [4, 3, 2, 1]
    np.testing.assert_allclose(smoothed, [4, 3, 2, 1])
    label, lines = drawn['panels']['knn/top1']
    assert label == '%'  # and not smoothed
    assert drawn['panels']['time'][0] == (
        'seconds per iteration, mean of 3 records'
    )
    assert drawn['rest'][2:] == ('minutes of training', True)
    monkeypatch.undo()

    out = tmp_path / 'new/curves.png'
    arguments = [f'a={run}', f'b={run}', '--out', str(out)]
    tool.main([*arguments, '--keys', 'loss', '*top1', '--smooth', '3'])
    width, height = Image.open(out).size
    assert width > 2 * height > 400  # three panels
    assert capsys.readouterr().out.strip() == str(out)
    before = out.read_bytes()
    tool.main([*arguments, '--keys', 'loss', '--log', '--x', 'minutes'])
    assert out.read_bytes() != before


def test_lists_keys(tool, run, capsys):
    tool.main([str(run), '--list'])
    assert capsys.readouterr().out.split() == sorted(read_curves(run))


def test_errors_in_one_line(tool, run, tmp_path, capsys):
    bad = tmp_path / 'bad'
    write(bad / '1', [train(1, 1.0)])
    with open(bad / '1/vis_data/scalars.json', 'a') as file:
        file.write('{"loss": \n')
    empty = tmp_path / 'empty'
    empty.mkdir()
    write(tmp_path / 'zero', [train(1, 0.0)])
    for arguments, message in (
        ([str(empty)], 'empty: no scalars.json'),
        ([str(bad)], 'scalars.json, line 2: not a record'),
        ([str(run), str(run)], "two runs are called 'oss'"),
        ([str(run), '--smooth', '2'], '--smooth 2: must be odd'),
        ([str(tmp_path / 'zero'), '--log'], 'loss of zero: no value above 0'),
    ):
        with pytest.raises(SystemExit):
            tool.main([*arguments, '--out', str(tmp_path / 'x.png')])
        assert message in capsys.readouterr().err
