"""The commands of docs/evaluation.md are ones that the tool takes."""

import importlib.util
import re
from pathlib import Path

import pytest

from mmssd.apis.suite_tasks import SUITES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docs/evaluation.md').read_text()
COMMANDS = [
    command
    for row in re.findall(r'^\| .* \| (`.*) \|$', TEXT, flags=re.MULTILINE)
    for command in re.findall(r'`([^`]+=(?:FILE|RUN)[^`]*)`', row)
]


@pytest.mark.parametrize('command', COMMANDS)
def test_command(command, tmp_path, capsys, monkeypatch):
    path = ROOT / 'tools/benchmarks/transfer.py'
    spec = importlib.util.spec_from_file_location('transfer', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    # whether weights fit is a question of theirs, not of the command
    monkeypatch.setattr(tool.Suite, 'problems', lambda self: [])
    for name in ('FILE', 'RUN/epoch_200.pth', 'RUN/epoch_400.pth'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    arguments = [word for word in command.split() if word != '...']
    assert tool.main([*arguments, '--plan']) == 0
    said = capsys.readouterr().out
    assert 'in all about' in said and 'unknown' not in said


def test_the_configs_of_the_rows_are_there():
    first = re.findall(r'^\| ([^|]*) \| `', TEXT, flags=re.MULTILINE)
    patterns = [
        name for cell in first for name in re.findall(r'`(\w+/[^`]+)`', cell)
    ]
    assert len(patterns) > 20
    for pattern in patterns:
        assert list((ROOT / 'configs').glob(f'{pattern}.py')), pattern
    # every dropout rate of Table 8 has its row
    (table8,) = (command for command in COMMANDS if '00-05' in command)
    rates = {
        path.name.split('dropout-')[1][:5]
        for path in (ROOT / 'configs/oss').glob('*dropout-*')
    }
    assert set(re.findall(r'(\d\d-\d\d)=', table8)) == rates


def test_every_suite_has_its_row():
    named = {command.split()[0] for command in COMMANDS}
    named |= {f'linear-{recipe}' for recipe in ('seed', 'disco-code')}
    named.add('linear-compress')  # part of the suite compress
    assert named == set(SUITES)
