r"""Classify frozen features by their nearest neighbours.

The config names the labelled sets, `bank` and `query`, on top or in its
KNNProbeHook. Without a checkpoint the untrained network is measured.

Examples:
    python tools/analysis/knn.py CONFIG CHECKPOINT
    python tools/analysis/knn.py CONFIG CHECKPOINT --part teacher --k 20 200
    python tools/analysis/knn.py CONFIG CHECKPOINT --k 1 --majority
    python tools/analysis/knn.py CONFIG CHECKPOINT \
        --cfg-options bank.subset=None query.subset=None
"""

import argparse
import sys

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import cli
from mmssd.evaluation.knn import (
    accuracies,
    knn_classify,
    majority_classify,
)


def main(argv: list[str] | None = None) -> None:
    """Print accuracies, in percent, for every k."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument(
        '--k', type=int, nargs='+', default=[20], help='numbers of neighbours'
    )
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        help='of the vote; 0 lets every neighbour count the same',
    )
    parser.add_argument(
        '--majority',
        action='store_true',
        help='one vote for each neighbour, chance between equals (CompRess, '
        'with --k 1); --temperature does not count',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        temperature = None if args.temperature == 0 else args.temperature
        found = cli.read_features(args)
        bank, bank_labels = cli.to_device(args, found['bank'])
        query, labels = cli.to_device(args, found['query'])
        results = {}
        for k in args.k:
            if args.majority:
                guess = majority_classify(bank, bank_labels, query, k)
            else:
                guess = knn_classify(
                    bank, bank_labels, query, k, temperature
                ).argmax(dim=1)
            results[str(k)] = accuracies(guess, labels)
        print(
            cli.describe(
                args,
                bank=len(bank),
                query=len(query),
                vote='majority' if args.majority else 'weighted',
                temperature=None if args.majority else temperature,
                top1_by_k={k: found['top1'] for k, found in results.items()},
                class_mean_by_k={
                    k: found['class_mean'] for k, found in results.items()
                },
            )
        )


if __name__ == '__main__':
    sys.exit(main())
