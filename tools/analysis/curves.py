r"""Draw what several runs logged, against each other.

A panel for each key, a line for each run. Runs are work folders; `NAME=RUN`
gives a run a name. Keys are those of the log, with * for anything.

Examples:
    python tools/analysis/curves.py work_dirs/oss work_dirs/swav
    python tools/analysis/curves.py OSS=work_dirs/oss SwAV=work_dirs/swav \
        --keys '*loss_student' 'knn/*' lr --smooth 5 --x minutes
    python tools/analysis/curves.py work_dirs/oss --list
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.visualization.curves import (
    AXES,
    choose_keys,
    plot_curves,
    read_curves,
)


def named(argument: str) -> tuple[str, str]:
    """Split ``NAME=RUN``; a run without a name has that of its folder."""
    name, equals, run = argument.partition('=')
    if equals and not Path(argument).exists():
        return name, run
    return Path(argument).resolve().name, argument


def main(argv: list[str] | None = None) -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('runs', nargs='+', metavar='[NAME=]RUN')
    parser.add_argument(
        '--keys', nargs='+', default=['loss'], help='default: loss'
    )
    parser.add_argument(
        '--out', default='curves.png', help='PNG file (default: curves.png)'
    )
    parser.add_argument(
        '--x', choices=AXES, default=AXES[0], help=f'default: {AXES[0]}'
    )
    parser.add_argument(
        '--log', action='store_true', help='logarithmic axis of values'
    )
    parser.add_argument(
        '--smooth',
        type=int,
        default=1,
        metavar='N',
        help='draw the mean of N records, around each, of what the training '
        'logged, with the records pale behind (odd; default: 1, no mean)',
    )
    parser.add_argument(
        '--list', action='store_true', help='print the keys, draw nothing'
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
            runs[name] = read_curves(run)
        if args.list:
            print('\n'.join(choose_keys(runs, ['*'])))
            return
        if args.smooth < 1 or args.smooth % 2 == 0:
            raise ValueError(
                f'--smooth {args.smooth}: must be odd, at least 1'
            )
        keys = choose_keys(runs, args.keys)
        plot_curves(runs, keys, args.out, args.x, args.log, args.smooth)
        print(args.out)


if __name__ == '__main__':
    sys.exit(main())
