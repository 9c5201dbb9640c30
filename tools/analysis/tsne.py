r"""Draw frozen features of several networks in the plane, by t-SNE.

A panel for each network, a point for each image of the set `query` of the
first config, which names it on top or in its KNNProbeHook, coloured by class.
Below each title stands the Kullback-Leibler divergence that t-SNE ended with:
how much of the neighbourhoods is lost in the plane.

Examples:
    python tools/analysis/tsne.py --out tsne.png \
        --network OSS OSS_CONFIG oss.pth
    python tools/analysis/tsne.py --out tsne.png --fraction 0.2 \
        --network SwAV SWAV_CONFIG swav.pth \
        --network OSS OSS_CONFIG oss.pth \
        --network 'its teacher' OSS_CONFIG oss.pth teacher \
        --network untrained OSS_CONFIG random
"""

import argparse
import sys

from mmengine.device import get_device
from mmengine.logging import MMLogger

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import extract_features, stratified_subset
from mmssd.evaluation.cli import add_reading
from mmssd.evaluation.knn import unit_rows
from mmssd.visualization.networks import (
    add_networks,
    build_sets,
    check_networks,
    class_names,
    read_networks,
)
from mmssd.visualization.pictures import draw_points


def main(argv: list[str] | None = None) -> None:
    """Draw the points of the query set."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_networks(parser)
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--perplexity',
        type=float,
        default=30.0,
        help='neighbours that count (default: 30)',
    )
    parser.add_argument(
        '--fraction', type=float, default=1.0, help='share of every class'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the share and of the first positions (default: 0)',
    )
    add_reading(parser)
    args = parser.parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        draw(args)
        print(args.out)


def draw(args: argparse.Namespace) -> None:
    """Place the points and draw them.

    Raises:
        ValueError: if two networks have one name, the images have no labels,
            or they are too few for the perplexity.
    """
    from sklearn.manifold import TSNE

    check_networks(args.network)
    titles = [values[0] for values in args.network]
    if len(set(titles)) < len(titles):
        raise ValueError(f'--network {titles}: give each a name of its own')
    networks = read_networks(args.network)
    (queries,) = build_sets(networks[0].config, ['query'])
    panels, chosen = {}, None
    for network in networks:
        network.model.to(args.device or get_device())
        features, labels = extract_features(
            network.model,
            queries,
            network.part,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
        )
        network.model.to('cpu')
        if labels is None:
            raise ValueError(
                f'--network {network.name}: the query set has no labels '
                '(gt_label) to colour the points by'
            )
        rows = stratified_subset(labels, args.fraction, seed=args.seed)
        if not 1 <= args.perplexity < len(rows):
            raise ValueError(
                f'--perplexity {args.perplexity:g}: must be at least 1 and '
                f'below the number of images, {len(rows)}'
            )
        tsne = TSNE(perplexity=args.perplexity, random_state=args.seed)
        unit = unit_rows('features', features[rows])
        points = tsne.fit_transform(unit.numpy())
        title = f'{network.name}\ndivergence {tsne.kl_divergence_:.2f}'
        panels[title], chosen = points, labels[rows].numpy()
    draw_points(
        panels,
        chosen,
        args.out,
        class_names(queries),
        f't-SNE of the features of {len(chosen)} images, perplexity '
        f'{args.perplexity:g}',
    )


if __name__ == '__main__':
    sys.exit(main())
