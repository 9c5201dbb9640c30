"""The benchmark runs the same networks on both sides."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
DEMO = (
    ROOT
    / 'configs/demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'
)
PAPER = (
    ROOT / 'configs/oss/off-kd-drop_resnet18-resnet50_8xb32-coslr-130e_in1k.py'
)


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/benchmarks/throughput.py'
    spec = importlib.util.spec_from_file_location('throughput', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calls_of(function, monkeypatch):
    """Shapes of the inputs of all convolutions and linear layers."""
    seen = []

    def spy(name, wrapped):
        def count(self, x):
            seen.append((name, tuple(x.shape), torch.is_grad_enabled()))
            return wrapped(self, x)

        return count

    with monkeypatch.context() as patch:
        for kind in (torch.nn.Conv2d, torch.nn.BatchNorm1d):
            patch.setattr(kind, 'forward', spy(kind.__name__, kind.forward))
        function()
    return seen


@pytest.mark.parametrize(
    'arguments',
    [
        [str(DEMO), '--batch-size', '4'],
        [str(PAPER), '--batch-size', '2', '--views', '2x64', '2x32'],
    ],
    ids=['online', 'frozen'],
)
def test_limit_and_step_run_the_same_layers(tool, monkeypatch, arguments):
    timed = tool.prepare(tool.parse_args(arguments))
    limit = calls_of(timed['limit'], monkeypatch)
    step = calls_of(timed['step'], monkeypatch)
    assert len(limit) > 40
    assert sorted(limit) == sorted(step)


def test_writes_what_it_prints(tool, tmp_path, capsys):
    out = tmp_path / 'step.json'
    arguments = [str(DEMO), '--batch-size', '4', '--rounds', '2']
    tool.main([*arguments, '--steps', '1', '--out', str(out)])
    record, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert set(record['results']) == {'limit', 'step', 'full'}
    for name, row in record['results'].items():
        assert 0 < row['least_ms'] <= row['median_ms'] <= row['most_ms']
        assert f'{row["median_ms"]:.1f}' in printed, name
    assert record['results']['limit']['ratio_to_limit'] == 1.0


@pytest.mark.parametrize(
    ('views', 'message'),
    [(['2-64'], '--views 2-64: must be NUMBERxSIZE'), (None, 'by --views')],
)
def test_bad_views(tool, capsys, views, message):
    arguments = [str(PAPER), *(['--views', *views] if views else [])]
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err
