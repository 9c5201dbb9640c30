"""Bars and curves of transfer results."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mmssd.visualization.transfer_table import plot_epochs, plot_table


def cell(mean, std, n):
    return dict(mean=mean, std=std, n=n, of=n)


@pytest.fixture
def kept(monkeypatch):
    """Return the figures that are drawn, which stay open."""
    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(plt, 'close', figures.append)
        yield figures
    for figure in figures:
        plt.close(figure)


def test_bars_have_the_means_and_spreads(tmp_path, kept):
    rows = [
        dict(row='oss', box=cell(20.0, 0.5, 5), mask=cell(18.0, None, 1)),
        dict(row='swav', box=cell(17.0, 0.25, 5), mask=None),
    ]
    plot_table(rows, ['box', 'mask'], tmp_path / 'table.png')
    assert (tmp_path / 'table.png').stat().st_size > 1000
    (axis,) = kept[0].axes
    first, second = (
        container
        for container in axis.containers
        if hasattr(container, 'patches')
    )
    assert [bar.get_height() for bar in first] == [20.0, 18.0]
    assert [bar.get_height() for bar in second] == [17.0]
    # of a single run there is no spread to draw, not one of zero
    (lines,) = first.errorbar.lines[2]
    box, mask = lines.get_segments()
    np.testing.assert_allclose(box[:, 1], [19.5, 20.5])
    assert not mask.size
    assert [t.get_text() for t in axis.get_xticklabels()] == ['box', 'mask']
    assert [t.get_text() for t in axis.get_legend().get_texts()] == [
        'oss',
        'swav',
    ]


def test_rows_without_results_are_not_in_the_legend(tmp_path, kept):
    """Every row has its colour, in the bars as in the legend."""
    results = dict(row='oss', box=cell(20.0, 0.5, 5))
    empty = dict(row='random', box=None)
    other = dict(row='swav', box=cell(17.0, 0.25, 5))
    plot_table([results, empty, other], ['box'], tmp_path / 'table.png')
    (axis,) = kept[0].axes
    bars = [c for c in axis.containers if hasattr(c, 'patches')]
    assert [bar.get_height() for (bar,) in bars] == [20.0, 17.0]
    colours = [to_hex(bar.get_facecolor()) for (bar,) in bars]
    assert colours == [to_hex('C0'), to_hex('C2')]
    legend = axis.get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ['oss', 'swav']
    assert [to_hex(p.get_facecolor()) for p in legend.get_patches()] == colours


def test_curves_have_the_epochs_and_means_of_each_run(tmp_path, kept):
    rows = [
        # in the order of the table, which need not be that of the epochs
        dict(row='a@400', top1=cell(61.0, None, 1), ap=None),
        dict(row='a@200', top1=cell(58.0, 0.5, 3), ap=None),
        dict(row='b@x@200', top1=cell(55.0, 0.25, 3), ap=cell(30.0, 1.0, 3)),
        dict(row='b@x@400', top1=None, ap=cell(33.0, 2.0, 3)),
    ]
    plot_epochs(rows, ['top1', 'ap'], tmp_path / 'epochs.png')
    assert (tmp_path / 'epochs.png').stat().st_size > 1000
    drawn = [
        {
            container.get_label(): (
                *(list(values) for values in container.lines[0].get_data()),
                to_hex(container.lines[0].get_color()),
            )
            for container in axis.containers
        }
        for axis in kept[0].axes
    ]
    first, second = to_hex('C0'), to_hex('C1')
    assert drawn == [
        {
            'a': ([200, 400], [58.0, 61.0], first),
            'b@x': ([200], [55.0], second),
        },
        # the same colour where another run has nothing
        {'b@x': ([200, 400], [30.0, 33.0], second)},
    ]
    top1, ap = kept[0].axes
    assert (top1.get_title(), ap.get_title()) == ('top1', 'ap')
    assert (ap.get_xlabel(), ap.get_ylabel()) == ('epoch', 'percent')
    (lines,) = top1.containers[0].lines[2]
    few, single = lines.get_segments()
    np.testing.assert_allclose(few[:, 1], [57.5, 58.5])
    assert not single.size  # no spread of a single run
