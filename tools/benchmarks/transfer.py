r"""Fill a table of transfer results: rows are checkpoints, columns tasks.

Every run is one of tools/train.py, or of a probe, in a folder of its own
below --work-dir. Call it again after an interruption: what is finished is
kept, and what was begun goes on. A run that fails does not stop the others.
Written after each run: table.json, table.csv, table.md and table.png.

Examples:
    python tools/benchmarks/transfer.py demo oss=oss.pth swav=swav.pth
    python tools/benchmarks/transfer.py oss-table3 oss=epoch_800.pth \
        supervised=resnet18.pth --student resnet18 --plan
    python tools/benchmarks/transfer.py linear seed=seed.pth --no-random
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.apis.suites import RANDOM, SUITES, Suite


def main(argv: list[str] | None = None) -> int:
    """Print the plan, run what is left, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('suite', choices=sorted(SUITES))
    parser.add_argument(
        'checkpoints',
        nargs='*',
        metavar='NAME=FILE',
        help='rows: backbones of our runs, or with keys backbone.*',
    )
    parser.add_argument(
        '--no-random', action='store_true', help='no row of random weights'
    )
    parser.add_argument(
        '--student', default='resnet18', help='in the names of the configs'
    )
    parser.add_argument('--seeds', type=int, default=1, help='of each run')
    parser.add_argument('--tasks', nargs='+', help='only these of the suite')
    parser.add_argument('--work-dir', type=Path, help='work_dirs/SUITE')
    parser.add_argument(
        '--plan', action='store_true', help='print the plan, run nothing'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='of every training, such as the place of the data',
    )
    args = parser.parse_intermixed_args(argv)

    def explain_interrupt() -> str:
        return 'interrupted; the same command goes on from here'

    with readable_errors(explain_interrupt):
        suite = make_suite(args)
        print(suite.plan())
        if args.plan:
            return 0
        complete = suite.run()
        print((suite.work_dir / 'table.md').read_text())
        return 0 if complete else 1


def make_suite(args: argparse.Namespace) -> Suite:
    """Read rows and tasks from the command line."""
    rows: dict[str, Path | None] = {} if args.no_random else {RANDOM: None}
    for text in args.checkpoints:
        name, equals, path = text.partition('=')
        if not equals or name in rows:
            raise ValueError(
                f'{text!r}: expected NAME=FILE, every name once'
                + (f', {RANDOM!r} being taken' if name == RANDOM else '')
            )
        rows[name] = Path(path)
    tasks = SUITES[args.suite]
    if args.tasks:
        known = {task.name for task in tasks}
        if not set(args.tasks) <= known:
            raise ValueError(
                f'--tasks {" ".join(args.tasks)}: {args.suite} has '
                f'{", ".join(sorted(known))}'
            )
        tasks = tuple(task for task in tasks if task.name in args.tasks)
    return Suite(
        tasks,
        rows,
        args.work_dir or Path('work_dirs') / args.suite,
        args.student,
        args.seeds,
        tuple(args.cfg_options),
    )


if __name__ == '__main__':
    sys.exit(main())
