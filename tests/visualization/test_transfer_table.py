"""Bars of transfer results."""

import matplotlib.pyplot as plt
import numpy as np

from mmssd.visualization.transfer_table import plot_table


def cell(mean, std, n):
    return dict(mean=mean, std=std, n=n, of=n)


def test_bars_have_the_means_and_spreads(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(plt, 'close', kept.append)
    rows = [
        dict(row='oss', box=cell(20.0, 0.5, 5), mask=cell(18.0, 0.0, 1)),
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
