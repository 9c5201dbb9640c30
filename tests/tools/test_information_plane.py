"""The tool that draws information planes."""

import importlib.util
import json
import struct
from pathlib import Path

import pytest

from mmssd.visualization.information_plane import read_plane

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis/information_plane.py'
    spec = importlib.util.spec_from_file_location('information_plane', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runs(tmp_path):
    """Two runs; the records of the first are not in order."""
    for name, points in (
        ('one', [(2, 1.0, 3.0, 1.5), (0, 0.0, 0.5, 0.25), (1, 0.5, 2.0, 1.0)]),
        ('two', [(0, 0.0, 1.0, 0.5)]),
    ):
        (tmp_path / name).mkdir()
        keys = ('iter', 'epoch', 'i_xt', 'i_ty')
        lines = [json.dumps(dict(zip(keys, p, strict=True))) for p in points]
        file = tmp_path / name / 'information_plane.json'
        file.write_text('\n'.join(lines) + '\n')
    return tmp_path


def test_reads_folders_and_files(runs):
    points = read_plane(runs / 'one')
    assert [p['iter'] for p in points] == [0, 1, 2]
    assert points[2] == dict(iter=2, epoch=1.0, i_xt=3.0, i_ty=1.5)
    assert read_plane(runs / 'one' / 'information_plane.json') == points


def test_draws_a_panel_for_each_run(tool, runs, capsys):
    sizes = []
    for given in (['one'], ['one', 'two']):
        out = runs / 'plane.png'
        tool.main([*(str(runs / name) for name in given), '--out', str(out)])
        data = out.read_bytes()
        assert data[:8] == b'\x89PNG\r\n\x1a\n'
        sizes.append(struct.unpack('>II', data[16:24]))
    assert sizes[1][0] > 1.5 * sizes[0][0] and sizes[1][1] == sizes[0][1]
    said = capsys.readouterr().out
    assert (
        'one: I(X; T) 3.000 bits, I(T; Y) 1.500 bits after 1 epoch(s)' in said
    )


def test_names(tool, runs):
    assert tool.named(f'wide={runs / "one"}') == ('wide', str(runs / 'one'))
    assert tool.named(str(runs / 'one'))[0] == 'one'
    file = str(runs / 'one' / 'information_plane.json')
    assert tool.named(file)[0] == 'one'
    (runs / 'lr=1').mkdir()
    assert tool.named(str(runs / 'lr=1'))[0] == 'lr=1'


def test_errors_in_one_line(tool, runs, capsys):
    out = str(runs / 'plane.png')
    (runs / 'empty').mkdir()
    bad = runs / 'bad.json'
    bad.write_text('{"iter": 1}\n')
    for given, message in (
        ([str(runs / 'empty')], 'InformationPlaneHook'),
        ([str(bad)], "not the record of an InformationPlaneHook ('epoch')"),
        (['a=' + str(runs / 'one')] * 2, "two runs are called 'a'"),
    ):
        with pytest.raises(SystemExit) as info:
            tool.main([*given, '--out', out])
        said = capsys.readouterr().err
        assert message in said + str(info.value)
