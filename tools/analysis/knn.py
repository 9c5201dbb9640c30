r"""Classify frozen features by their nearest neighbours.

The config names the labelled sets, `bank` and `query`, on top or in its
KNNProbeHook. Without a checkpoint the untrained network is measured.

Examples:
    python tools/analysis/knn.py CONFIG CHECKPOINT
    python tools/analysis/knn.py CONFIG CHECKPOINT --part teacher --k 20 200
    python tools/analysis/knn.py CONFIG CHECKPOINT \
        --cfg-options bank.subset=None query.subset=None
"""

import argparse
import sys

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import cli
from mmssd.evaluation.knn import knn_accuracy


def main(argv: list[str] | None = None) -> None:
    """Print the top-1 accuracy, in percent, for every k."""
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
    args = parser.parse_args(argv)
    with readable_errors():
        temperature = None if args.temperature == 0 else args.temperature
        found = cli.read_features(args)
        (bank, bank_labels), (query, labels) = found['bank'], found['query']
        top1 = {
            str(k): knn_accuracy(
                bank, bank_labels, query, labels, k, temperature
            )
            for k in args.k
        }
        print(
            cli.describe(
                args,
                bank=len(bank),
                query=len(query),
                temperature=temperature,
                top1_by_k=top1,
            )
        )


if __name__ == '__main__':
    sys.exit(main())
