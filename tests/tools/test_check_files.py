"""The check of all files: here what it says of links."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools' / 'dev' / 'check_files.py'
    spec = importlib.util.spec_from_file_location('check_files', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = """# Page

[here](a.md), ![b](pictures/b.png "title") and [a part](a.md#part), [`code`](
a.md), [heading](#page), [elsewhere](https://example.org/none.md),
[top](../page.md), [of blanks](two%20words.md), [root](/docs/a.md)

```
[not a link](gone.md)
```
"""


@pytest.fixture
def page(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    for name in ('docs/a.md', 'docs/two words.md', 'docs/pictures/b.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('x\n')
    (tmp_path / 'page.md').write_text('x\n')
    return tmp_path / 'docs' / 'links.md'


def test_links_that_lead_somewhere(tool, page):
    page.write_text(PAGE)
    assert tool.check_file(page) == []


@pytest.mark.parametrize(
    'target', ['gone.md', 'gone.md#part', '../a.md', '/a.md', 'pictures/a.png']
)
def test_dead_links(tool, page, target, capsys):
    page.write_text(PAGE + f'\n[a line\nor two]({target}) and [a](a.md)\n')
    told = f'links to {target}, which does not exist'
    assert tool.check_file(page) == [told]
    assert tool.main([str(page)]) == 1
    assert told in capsys.readouterr().out


def test_other_files_have_no_links(tool, page):
    path = page.with_suffix('.txt')
    path.write_text('[a](gone.md)\n')
    assert tool.check_file(path) == []
