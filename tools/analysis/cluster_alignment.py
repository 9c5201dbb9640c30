r"""Classify frozen features by k-means clusters that are given classes.

CompRess's evaluation. The config names the labelled sets, `bank` and `query`,
on top or in its KNNProbeHook: clusters are found and aligned on the bank.
Without a checkpoint the untrained network is measured.

Examples:
    python tools/analysis/cluster_alignment.py CONFIG CHECKPOINT
    python tools/analysis/cluster_alignment.py CONFIG CHECKPOINT \
        --part teacher --seeds 3
"""

import argparse
import sys

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import cli
from mmssd.evaluation.cluster_alignment import cluster_alignment


def main(argv: list[str] | None = None) -> None:
    """Print accuracies, in percent, for every seed of k-means."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser, kmeans=True)
    parser.add_argument(
        '--clusters', type=int, help='by default as many as classes'
    )
    parser.add_argument(
        '--seeds', type=int, default=1, help='how many runs of k-means'
    )
    args = parser.parse_args(argv)
    with readable_errors():
        if args.seeds < 1:
            raise ValueError(f'--seeds {args.seeds}: must be at least 1')
        found = cli.read_features(args)
        results = [
            dict(
                seed=seed,
                **cluster_alignment(
                    *found['bank'], *found['query'], args.clusters, seed
                ),
            )
            for seed in range(args.seeds)
        ]
        print(
            cli.describe(
                args,
                bank=len(found['bank'][0]),
                query=len(found['query'][0]),
                results=results,
            )
        )


if __name__ == '__main__':
    sys.exit(main())
