"""Check an environment: its ``packages``, their ``files``, or ``imports``.

Prints one word for what is wrong and exits with 1; with ``--explain`` the
sentence that says what to do instead. Standard library only.
"""

import argparse
import importlib
import io
import re
import sys
from contextlib import redirect_stdout
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    distributions,
)
from pathlib import Path
from warnings import catch_warnings, simplefilter

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements'
PIN = re.compile(r'^([\w.-]+)==', re.MULTILINE)
MODULES = ('mmcv.ops', 'mmpretrain', 'mmdet.apis', 'mmseg.apis', 'mmssd')
REMEDIES = {
    'opencv': (
        'OpenCV lacks a library of the machine. Install it '
        '(Debian: sudo apt-get install libgl1 libglib2.0-0), then run the '
        'same command again.'
    ),
    'operators': (
        "mmcv's operators are missing or were built with another torch. "
        'Run `pip cache remove onedl_mmcv` and `pip uninstall onedl-mmcv` '
        'with the pip of this environment, then the same command again: '
        'it compiles them anew.'
    ),
    'other': (
        'Remove the environment (`make distclean`) and run the same command '
        'again. If that does not help, docs/install.md lists known troubles.'
    ),
}


def find_missing() -> list[str]:
    """Names of pinned packages that are not there; a moment's work."""
    names = []
    for path in sorted(REQUIREMENTS.glob('*.txt')):
        for name in PIN.findall(path.read_text()):
            try:
                distribution(name)
            except PackageNotFoundError:
                names.append(name)
    return names


def find_incomplete() -> list[str]:
    """Names of packages with a file that is missing or cut short."""
    names = []
    for package in distributions():
        files = package.files
        whole = files is not None and all(
            _is_whole(Path(package.locate_file(file)), file.size)
            for file in files
            # both flavours of OpenCV write the files of cv2
            if file.suffix != '.pyc' and file.parts[0] != 'cv2'
        )
        if not whole:
            names.append(str(package.metadata['Name']))
    return names


def _is_whole(path: Path, size: int | None) -> bool:
    try:
        return size is None or path.stat().st_size == size
    except OSError:
        return False


def find_import_error() -> tuple[str, str] | None:
    """The kind of the first trouble and what Python said, None if well."""
    for name in ('cv2', 'torch', 'torchvision', *MODULES):
        try:
            with redirect_stdout(io.StringIO()), catch_warnings():
                simplefilter('ignore')
                importlib.import_module(name)
        except Exception as error:  # a broken library raises anything
            kind = 'other'
            if 'libGL' in str(error) or 'libgthread' in str(error):
                kind = 'opencv'
            elif name == 'mmcv.ops' and isinstance(error, ImportError):
                kind = 'operators' if 'mmcv' in sys.modules else 'other'
            return kind, f'`import {name}`: {type(error).__name__}: {error}'
    return None


def main() -> int:
    """Run the check that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('check', choices=['packages', 'files', 'imports'])
    parser.add_argument('--explain', action='store_true')
    args = parser.parse_args()

    if args.check != 'imports':
        find = find_missing if args.check == 'packages' else find_incomplete
        names = find()
        print(*names)
        return int(bool(names))

    trouble = find_import_error()
    if trouble is None:
        return 0
    kind, what = trouble
    print(f'[setup] ERROR: {what}\n{REMEDIES[kind]}' if args.explain else kind)
    return 1


if __name__ == '__main__':
    sys.exit(main())
