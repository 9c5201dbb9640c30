r"""Fill a table of transfer results: rows are checkpoints, columns tasks.

Every run is one of tools/train.py, or of a probe, in a folder of its own
below --work-dir. Before the first one, and with --plan, it is proven that
every checkpoint fits every task. Call it again after an interruption: what is
finished is kept, and what was begun goes on. A run that fails does not stop
the others; the exit status is then 1. Written after each run: table.json,
table.csv, table.md and table.png; with --epochs also epochs.png.

The row `random` starts from random weights. The row `supervised`, where the
suite is about ImageNet's students, is mmpretrain's network trained with
labels, downloaded unless you give a file, supervised=FILE. Where labels are
few (1 %, 10 %, VIPriors) there is none, unless you give it: that network has
seen them all.

Examples:
    python tools/benchmarks/transfer.py demo oss=oss.pth swav=swav.pth
    python tools/benchmarks/transfer.py oss-table3 oss=epoch_800.pth \
        --student resnet18 --gpus 8 --plan
    python tools/benchmarks/transfer.py linear seed=seed.pth --no-random
    python tools/benchmarks/transfer.py oss-table2 oss=work_dirs/oss \
        --epochs 200 400 800
    python tools/benchmarks/transfer.py oss-table2 oss=epoch_800.pth \
        --student resnet50 --part teacher
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.apis.export import PARTS
from mmssd.apis.suite_tasks import DATA, SUITES
from mmssd.apis.suites import (
    MODELS,
    RANDOM,
    SUPERVISED,
    Suite,
    epoch_rows,
    supervised_weights,
)
from mmssd.models.utils.checkpoint import URL


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
        help='rows: checkpoints of runs, or files with keys backbone.*, or '
        'their URLs; with '
        '--epochs the folder of a run',
    )
    parser.add_argument(
        '--no-random', action='store_true', help='no row of random weights'
    )
    parser.add_argument(
        '--no-supervised',
        action='store_true',
        help='no row of the network trained with labels',
    )
    parser.add_argument(
        '--student', help='in the names of the configs (default: resnet18)'
    )
    parser.add_argument(
        '--part',
        choices=sorted(PARTS),
        default='student',
        help='whose backbone of the checkpoints (default: student)',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        nargs='+',
        help='a row for each of these epochs of the runs',
    )
    parser.add_argument('--seeds', type=int, default=1, help='of each run')
    parser.add_argument('--tasks', nargs='+', help='only these of the suite')
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='most processes of a training, of those that its config is for',
    )
    parser.add_argument(
        '--data',
        type=Path,
        help='folder of the data of demo (default: data/garments) and small '
        '(data/small)',
    )
    parser.add_argument(
        '--work-dir', type=Path, help='default: work_dirs/transfer/SUITE'
    )
    parser.add_argument(
        '--plan', action='store_true', help='print the plan, run nothing'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='of every training, not of the probes, such as '
        'train_dataloader.num_workers=8; data belong below data/, where a '
        'link will do',
    )
    args = parser.parse_intermixed_args(argv)

    def explain_interrupt() -> str:
        return 'interrupted; the same command goes on from here'

    with readable_errors(explain_interrupt):
        suite = make_suite(args)
        print(suite.plan(), flush=True)
        if args.plan:
            suite.check()
            return 0
        complete = suite.run()
        print((suite.work_dir / 'table.md').read_text())
        return 0 if complete else 1


def make_suite(args: argparse.Namespace) -> Suite:
    """Read rows and tasks from the command line."""
    tasks = SUITES[args.suite]
    student = args.student or 'resnet18'
    if args.tasks:
        known = {task.name for task in tasks}
        if not set(args.tasks) <= known:
            raise ValueError(
                f'--tasks {" ".join(args.tasks)}: {args.suite} has '
                f'{", ".join(sorted(known))}'
            )
        tasks = tuple(task for task in tasks if task.name in args.tasks)
    if args.data and args.suite not in DATA:
        raise ValueError(
            f'--data {args.data}: the data of {args.suite} lie where the '
            'configs say, below data/: link their folders there, such as '
            'ln -s /disk/coco data/coco'
        )
    if args.student and not any('{student}' in t.config for t in tasks):
        raise ValueError(
            f'--student {args.student}: {args.suite} has one student, that '
            'of the demo'
        )
    return Suite(
        tasks,
        make_rows(args, student, tasks),
        args.work_dir or Path('work_dirs/transfer') / args.suite,
        student,
        args.seeds,
        tuple(args.cfg_options),
        args.data or DATA.get(args.suite),
        args.part,
        args.gpus,
        SUITES[args.suite],
    )


def make_rows(
    args: argparse.Namespace, student: str, tasks: tuple
) -> dict[str, Path | str | None]:
    """Return the rows: random, supervised, and what was given."""
    rows: dict[str, Path | str | None] = {}
    if not args.no_random:
        rows[RANDOM] = None
    given: dict[str, Path | str] = {}
    for text in args.checkpoints:
        name, equals, path = text.partition('=')
        if not equals or name in (*given, *rows):
            raise ValueError(
                f'{text!r}: expected NAME=FILE, every name once'
                + (f', {RANDOM!r} being taken' if name == RANDOM else '')
            )
        given[name] = path if path.startswith(URL) else Path(path)
    of_imagenet = any('{student}' in task.config for task in tasks)
    if SUPERVISED in given:
        rows[SUPERVISED] = given.pop(SUPERVISED)
    elif (
        of_imagenet
        and student in MODELS
        and not args.no_supervised
        and not any(task.unfair for task in tasks)
    ):
        rows[SUPERVISED] = supervised_weights(student)
    for name, path in given.items():
        if args.epochs:
            rows |= epoch_rows(name, path, args.epochs)
        else:
            rows[name] = path
    return rows


if __name__ == '__main__':
    sys.exit(main())
