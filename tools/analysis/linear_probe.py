r"""Measure frozen features by the best linear classifier of them.

The config names the labelled sets on top or in its KNNProbeHook: `bank`, to
train on, and `query`, to test on. Without a checkpoint the untrained network
is measured.

Examples:
    python tools/analysis/linear_probe.py CONFIG CHECKPOINT
    python tools/analysis/linear_probe.py CONFIG CHECKPOINT \
        --fraction 0.01 0.1 1 --seeds 3
"""

import argparse
import sys

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import cli
from mmssd.evaluation.linear_probe import linear_probe, stratified_subset


def main(argv: list[str] | None = None) -> None:
    """Print accuracies, in percent, for every fraction and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument(
        '--fraction',
        type=float,
        nargs='+',
        default=[1.0],
        help='shares of the labels of every class to train on, in (0, 1]',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=1,
        help='how many choices of the training labels (of all: one)',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        if args.seeds < 1:
            raise ValueError(f'--seeds {args.seeds}: must be at least 1')
        found = cli.read_features(args)
        x, y = found['bank']
        test_x, test_y = cli.to_device(args, found['query'])
        results = []
        for fraction in args.fraction:
            for seed in range(args.seeds if fraction < 1 else 1):
                rows = stratified_subset(y, fraction=fraction, seed=seed)
                train = cli.to_device(args, (x[rows], y[rows]))
                probe = linear_probe(*train, test_x, test_y, seed)
                results.append(
                    dict(fraction=fraction, seed=seed, rows=len(rows), **probe)
                )
        print(cli.describe(args, query=len(test_x), results=results))


if __name__ == '__main__':
    sys.exit(main())
