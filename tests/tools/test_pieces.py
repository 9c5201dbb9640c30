"""Pieces of a training, timed: all ways of one give the same."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SMALL = dict(
    codes=dict(rows=40, prototypes=7),
    history=dict(entries=20, numbers=3),
    lars=dict(depth=18),
    sgd=dict(depth=18),
    adamw=dict(depth=18),
    groups=dict(depth=18),
    overhaul=dict(images=2, width=3, side=5),
    similarity=dict(rows=4, keys=32),
    products=dict(rows=3, keys=8, width=5),
    layout=dict(images=8, side=64),
)


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/benchmarks/pieces.py'
    spec = importlib.util.spec_from_file_location('pieces', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


UPDATES = ('lars', 'sgd', 'adamw', 'groups')


@pytest.mark.parametrize('name', SMALL)
def test_all_ways_give_the_same(tool, name):
    """To a thousandth of the largest number; of a network, a hundredth."""
    close = 1e-2 if name == 'layout' else 1e-3
    torch.manual_seed(0)
    ways = tool.PIECES[name]('cpu', **SMALL[name])
    assert len(ways) > 1
    results = []
    for way in ways.values():
        result = way()
        if name in UPDATES:  # what a second step changes
            before = [p.detach().clone() for p in result]
            result = [a - b for a, b in zip(way(), before, strict=True)]
        results.append(result if isinstance(result, list) else [result])
    for parts in zip(*results, strict=True):
        expected, *others = map(torch.as_tensor, parts)
        largest = expected.abs().max().item()
        assert largest > 0
        for other in others:
            torch.testing.assert_close(
                other, expected, rtol=0, atol=close * largest
            )


def test_each_is_there(tool):
    bfloat16 = {'layout-bf16', 'compiled-bf16'}
    assert {*SMALL, 'compiled', *bfloat16} == set(tool.PIECES)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a compiler')
@pytest.mark.parametrize('name', ['compiled', 'layout-bf16', 'compiled-bf16'])
def test_compiled_networks_learn_alike(tool, name):
    ways = tool.PIECES[name]('cpu', images=8, side=64)
    eager, compiled = (way() for way in ways.values())
    # numbers of bfloat16 differ one by one
    alike = torch.cosine_similarity(compiled.flatten(), eager.flatten(), dim=0)
    assert alike > (0.999 if name == 'compiled' else 0.95)


def test_table_and_record(tool, monkeypatch, tmp_path, capsys):
    calls = []

    def pair(device):
        return {
            name: lambda name=name: calls.append(name)
            for name in ('plain', 'fast')
        }

    monkeypatch.setattr(tool, 'PIECES', dict(one=pair, two=pair))
    out = tmp_path / 'pieces.json'
    args = ['--rounds', '2', '--steps', '3', '--device', 'cpu']
    tool.main(['two', *args, '--out', str(out)])
    # in turn, and once to warm up
    assert calls == (['plain'] * 3 + ['fast'] * 3) * 3
    record = json.loads(out.read_text())
    assert list(record['pieces']) == ['two']
    row = record['pieces']['two']['plain']
    assert row['median_of_ratios'] == row['ratio_of_medians'] == 1
    printed = capsys.readouterr().out
    assert 'two, plain' in printed and 'two, fast' in printed
    assert 'one' not in printed
    tool.main(args)
    assert 'one, fast' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['sinkhorns'], 'sinkhorns: no such piece; there are codes, history'),
        (['--rounds', '0'], '--rounds 0: must be at least 1'),
        (['--steps', '-1'], '--steps -1: must be at least 1'),
    ],
)
def test_bad_input(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err
