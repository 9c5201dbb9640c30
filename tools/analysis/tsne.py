r"""Draw frozen features in the plane, by t-SNE, coloured by class.

The config names the labelled images, `query`, on top or in its KNNProbeHook.

Example:
    python tools/analysis/tsne.py CONFIG CHECKPOINT --picture tsne.png
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.evaluation import cli, stratified_subset
from mmssd.evaluation.knn import unit_rows
from mmssd.visualization.networks import build_sets, class_names
from mmssd.visualization.pictures import draw_points


def main(argv: list[str] | None = None) -> None:
    """Draw the points of the query set."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument('--picture', required=True, help='PNG to write')
    parser.add_argument(
        '--perplexity', type=float, default=30.0, help='neighbours that count'
    )
    parser.add_argument(
        '--fraction', type=float, default=1.0, help='share of every class'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    with readable_errors():
        from sklearn.manifold import TSNE

        config = load_config(args.config, args.cfg_options)
        names = class_names(build_sets(config, ['query'])[0])
        features, labels = cli.read_features(args)['query']
        rows = stratified_subset(labels, args.fraction, seed=args.seed)
        features, labels = features[rows], labels[rows]
        if not 1 <= args.perplexity < len(rows):
            raise ValueError(
                f'--perplexity {args.perplexity}: must be at least 1 and '
                f'below the number of images, {len(rows)}'
            )
        tsne = TSNE(perplexity=args.perplexity, random_state=args.seed)
        points = tsne.fit_transform(unit_rows('features', features).numpy())
        name = Path(args.checkpoint).name if args.checkpoint else 'untrained'
        draw_points(
            {f'{args.part}, {Path(args.config).stem}\n{name}': points},
            labels.numpy(),
            args.picture,
            names,
            f't-SNE of the features of {len(rows)} images, perplexity '
            f'{args.perplexity:g}',
        )
        print(
            cli.describe(
                args,
                images=len(rows),
                perplexity=args.perplexity,
                kl_divergence=float(tsne.kl_divergence_),
                picture=args.picture,
            )
        )


if __name__ == '__main__':
    sys.exit(main())
