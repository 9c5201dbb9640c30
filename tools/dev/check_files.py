"""Check every tracked file: ends, merge conflicts, sizes, links, metafiles.

What ruff and codespell do not look at. Files named on the command line, or
all that git knows.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 500 * 1000  # bytes
# [text](target) or ![text](target "title")
LINK = re.compile(r'\[[^\[\]]*\]\(<?([^()\s<>]+)[^()]*\)')
FENCED = re.compile(r'^```.*?^```', re.MULTILINE | re.DOTALL)
CONFLICTS = ('<' * 7 + ' ', '>' * 7 + ' ')


def list_files() -> list[Path]:
    """Files that git tracks, or would if they were added."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    try:
        done = subprocess.run(
            command, cwd=ROOT, check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []  # an unpacked archive: nothing to commit here
    return [ROOT / name for name in done.stdout.splitlines()]


def check_text(text: str) -> list[str]:
    """Troubles of one text file."""
    troubles = []
    if text and not text.endswith('\n'):
        troubles.append('no newline at the end')
    if text.endswith('\n\n'):
        troubles.append('empty lines at the end')
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(CONFLICTS):
            troubles.append(f'line {number}: a merge conflict')
        if line != line.rstrip():
            troubles.append(f'line {number}: blanks at the end')
    return troubles


def check_links(path: Path, text: str) -> list[str]:
    """Relative links of a Markdown page to what does not exist."""
    troubles = []
    for target in LINK.findall(FENCED.sub('', text)):
        name = unquote(target.partition('#')[0])
        if not name or ':' in name:  # a heading of the page, or a URL
            continue
        start = ROOT if name.startswith('/') else path.parent
        if not (start / name.lstrip('/')).exists():
            troubles.append(f'links to {target}, which does not exist')
    return troubles


def check_metafile(path: Path) -> list[str]:
    """Troubles of a ``metafile.yml`` or ``model-index.yml``."""
    content = yaml.safe_load(path.read_text()) or {}
    named = [model['Config'] for model in content.get('Models') or []]
    named += content.get('Import') or []
    return [
        f'names {name}, which does not exist'
        for name in named
        if not (ROOT / name).exists()
    ]


def check_file(path: Path) -> list[str]:
    """Troubles of one file, as sentences."""
    if not path.is_file() or path.is_symlink():
        return []
    content = path.read_bytes()
    if len(content) > LARGEST:
        return [f'{len(content)} bytes; the limit is {LARGEST}']
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return []  # a picture
    troubles = check_text(text)
    if path.suffix == '.md':
        troubles += check_links(path, text)
    if path.name in ('metafile.yml', 'model-index.yml'):
        troubles += check_metafile(path)
    return troubles


def main(names: list[str]) -> int:
    """Print each trouble; return the exit status."""
    found = 0
    for path in [Path(name) for name in names] or list_files():
        for trouble in check_file(path):
            print(f'{path}: {trouble}')
            found = 1
    return found


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
