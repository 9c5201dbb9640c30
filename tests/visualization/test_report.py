"""The report's table and the logs behind its pictures."""

import json

import pytest

from mmssd.visualization.report import (
    count_seeds,
    mean_and_spread,
    plot_accuracy,
    plot_knn,
    plot_losses,
    read_scalars,
    write_table,
)


def test_mean_and_spread_by_hand():
    assert mean_and_spread([None, None]) == '-'
    assert mean_and_spread([31.26]) == '31.3'
    # mean 2, deviations -1, 0, 1: sample standard deviation 1
    assert mean_and_spread([1.0, 2.0, 3.0]) == '2.0 ± 1.0'
    assert mean_and_spread([1.0, None, 3.0]) == '2.0 ± 1.4'


@pytest.fixture
def run(tmp_path):
    """Write the logs of a run that was interrupted and resumed."""
    starts = (
        ('20260101_000000', [(1, 4.0), (2, 3.0), (3, 9.0)]),
        ('20260102_000000', [(3, 2.0), (4, 1.0)]),
    )
    for name, points in starts:
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        lines = [
            json.dumps(
                {'lr': 0.1, 'loss': v, 'head.loss_a': v / 2, 'step': step}
            )
            for step, v in points
        ]
        (folder / 'scalars.json').write_text('\n'.join(lines) + '\n')
    records = [
        dict(iter=i, epoch=0, part='student', top1=10.0 + i, seconds=1.0)
        for i in (0, 2, 4)
    ]
    (tmp_path / 'knn.json').write_text('\n'.join(map(json.dumps, records)))
    return tmp_path


def test_a_resumed_run_reads_as_one(run):
    records = read_scalars(run)
    assert [r['step'] for r in records] == [1, 2, 3, 4]
    assert [r['loss'] for r in records] == [4.0, 3.0, 2.0, 1.0]


def test_pictures_are_drawn(run, tmp_path):
    for draw, name in ((plot_losses, 'losses.png'), (plot_knn, 'knn.png')):
        path = tmp_path / name
        draw({'run': run}, path)
        assert path.read_bytes().startswith(b'\x89PNG')
        assert path.stat().st_size > 5000
    path = tmp_path / 'accuracy.png'
    plot_accuracy({'run': run, 'nothing': tmp_path / 'none'}, path, 'loss')
    assert path.stat().st_size > 5000


def test_a_frozen_teacher_is_drawn_once(tmp_path, monkeypatch):
    from matplotlib import pyplot as plt

    runs = {}
    for name in 'ab':
        folder = runs[name] = tmp_path / name
        folder.mkdir()
        records = [
            dict(iter=i, part=part, top1=38.0 if part == 'teacher' else i)
            for i in (0, 200)
            for part in ('student', 'teacher')
        ]
        (folder / 'knn.json').write_text('\n'.join(map(json.dumps, records)))
    monkeypatch.setattr(plt, 'close', lambda figure: None)
    plot_knn(runs, tmp_path / 'knn.png')
    texts = plt.gcf().axes[0].get_legend().get_texts()
    names = [text.get_text() for text in texts]
    assert names == ['a student', 'frozen teacher', 'b student']
    monkeypatch.undo()
    plt.close('all')


def test_table_over_seeds(tmp_path):
    columns = dict(method='method', a='top-1')
    seeds = [[dict(method='x', a=1.0)], [dict(method='x', a=3.0, b=9.0)]]
    lines = write_table(tmp_path, columns, seeds, name='rows')
    assert lines == [
        '| method | top-1 |',
        '| --- | --- |',
        '| x | 2.0 ± 1.4 |',
    ]
    assert json.loads((tmp_path / 'rows.json').read_text()) == seeds
    text = (tmp_path / 'rows.csv').read_text().splitlines()
    assert text == ['method,top-1', 'x,2.0 ± 1.4']
    assert count_seeds(seeds).startswith('2 seed(s); mean')
    assert count_seeds(seeds[:1]) == '1 seed(s)'
