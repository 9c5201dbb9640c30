"""The main job: from real images to a distilled student in a detector.

    python tools/demo.py [--seeds 3] [--work-dir work_dirs/demo]

Interrupt it with Ctrl-C and run it again: it goes on where it stopped.
"""

import argparse
import functools
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--method', default='oss', help='which method')
    parser.add_argument('--seeds', type=int, default=1, help='how many seeds')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/demo')
    )
    parser.add_argument(
        '--data-root', type=Path, default=Path('data/garments')
    )
    args = parser.parse_args(argv)

    from mmssd.apis import demo_visual_priors
    from mmssd.apis.cli import readable_errors
    from mmssd.apis.demo import METHODS, Demo, StageError, run_demo

    methods = {
        **dict.fromkeys(METHODS, run_demo),
        **demo_visual_priors.METHODS,
    }
    if args.method not in methods:
        print(
            f'error: METHOD={args.method}: there is {", ".join(methods)}',
            file=sys.stderr,
        )
        return 2
    if args.seeds < 1:
        print(f'error: SEEDS={args.seeds}: must be >= 1', file=sys.stderr)
        return 2
    demo = Demo(
        work_dir=args.work_dir,
        method=args.method,
        data_root=args.data_root,
        seeds=args.seeds,
        say=functools.partial(print, flush=True),
    )
    with readable_errors(
        lambda: 'interrupted; make demo goes on from here', also=(StageError,)
    ):
        report = methods[args.method](demo)
    print(report.read_text())
    print(f'report and pictures: {report.parent}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
