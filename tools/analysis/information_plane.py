r"""Draw the information plane of one or several runs.

Each run was a probe trained with an InformationPlaneHook. Runs are folders
or their information_plane.json; `NAME=RUN` gives a run a name.

Examples:
    python tools/analysis/information_plane.py work_dirs/probe
    python tools/analysis/information_plane.py \
        'hidden 512=work_dirs/probe512' 'hidden 2048=work_dirs/probe2048' \
        --out plane.png
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.visualization.information_plane import (
    plot_information_plane,
    read_plane,
)


def named(argument: str) -> tuple[str, str]:
    """Split ``NAME=RUN``; a run without a name has that of its folder."""
    name, equals, run = argument.partition('=')
    if equals and not Path(argument).exists():
        return name, run
    path = Path(argument)
    return (path.parent if path.suffix else path).resolve().name, argument


def main(argv: list[str] | None = None) -> None:
    """Write the picture, print where each run ended."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('runs', nargs='+', metavar='[NAME=]RUN')
    parser.add_argument(
        '--out',
        metavar='FILE',
        default='information_plane.png',
        help='picture (default: information_plane.png)',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        runs = {}
        for argument in args.runs:
            name, run = named(argument)
            if name in runs:
                raise ValueError(
                    f'two runs are called {name!r}: give names, NAME=RUN'
                )
            runs[name] = read_plane(run)
        plot_information_plane(runs, args.out)
        for name, points in runs.items():
            last = points[-1]
            print(
                f'{name}: I(X; T) {last["i_xt"]:.3f} bits, I(T; Y) '
                f'{last["i_ty"]:.3f} bits after {last["epoch"]:g} epoch(s)'
            )
        print(f'wrote {args.out}')


if __name__ == '__main__':
    sys.exit(main())
