"""The page about pictures names what there is."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docs/visualization.md').read_text()
COMMANDS = [
    command.replace('\\\n', ' ')
    for block in re.findall(r'```bash\n(.*?)```', TEXT, flags=re.DOTALL)
    for command in re.split(r'\n(?! )', block.strip())
    if command.startswith('python ')
]


def test_lines_are_wrapped():
    text = re.sub(r'```.*?```', '', TEXT, flags=re.DOTALL)
    prose = [line for line in text.splitlines() if line[:1] != '|']
    assert [line for line in prose if len(line) > 80] == []


def test_files_exist():
    names = re.findall(r'\b(?:tools|configs)/[\w./-]+\.py', TEXT)
    assert len(set(names)) > 10
    for name in names:
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize('command', COMMANDS, ids=lambda c: c.split()[1][6:])
def test_tools_know_the_arguments(command, capsys):
    words = shlex.split(command.partition(' > ')[0])[1:]
    spec = importlib.util.spec_from_file_location('tool', ROOT / words[0])
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    # the arguments are read up to there, and the last one asks for the help
    with pytest.raises(SystemExit) as info:
        tool.main([*words[1:], '--help'])
    assert info.value.code == 0
    said = capsys.readouterr().out
    for word in words[1:]:
        if word.startswith('--'):
            assert word in said
