r"""Draw the nearest neighbours of images for several networks side by side.

A row for each query, a block of columns for each network. The images are the
bank and the query set of the first config, which names them on top or in its
KNNProbeHook. Below each neighbour stand its class and its distance, that of
features of unit length (0 to 2); the frame tells whether the class is that
of the query.

Examples:
    python tools/analysis/neighbours.py --out neighbours.png \
        --network SwAV SWAV_CONFIG swav.pth \
        --network OSS OSS_CONFIG oss.pth \
        --network 'its teacher' OSS_CONFIG oss.pth teacher
    python tools/analysis/neighbours.py --out neighbours.png \
        --network OSS OSS_CONFIG oss.pth --queries 3 14 159 --k 8
"""

import argparse
import sys

from mmengine.device import get_device
from mmengine.logging import MMLogger
from torch.utils.data import Subset

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import extract_features, nearest_neighbours
from mmssd.evaluation.cli import add_reading
from mmssd.visualization.networks import (
    add_networks,
    build_sets,
    check_indices,
    class_names,
    read_networks,
    to_picture,
)
from mmssd.visualization.pictures import draw_grid

SAME, OTHER = 'tab:blue', 'tab:orange'
QUERIES = 8  # by default


def main(argv: list[str] | None = None) -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_networks(parser)
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--queries',
        type=int,
        nargs='+',
        metavar='INDEX',
        help='images of the query set (default: the first of each class, '
        f'{QUERIES} at most)',
    )
    parser.add_argument(
        '--k', type=int, default=5, help='neighbours of each (default: 5)'
    )
    add_reading(parser)
    args = parser.parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        draw(args)
        print(args.out)


def label_of(item: dict) -> int | None:
    """Return the class index of an item, if it has one."""
    sample = item['data_samples']
    return int(sample.gt_label) if 'gt_label' in sample else None


def choose(queries, wanted: list[int] | None) -> list[int]:
    """Return the indices of the queries to draw.

    Raises:
        ValueError: if one is not in the set.
    """
    if wanted:
        check_indices('--queries', wanted, len(queries))
        return wanted
    first = {}
    for index in range(len(queries)):
        try:
            # without reading the image, where the data set can
            label = queries.get_cat_ids(index)[0]
        except (AttributeError, KeyError):
            return list(range(min(QUERIES, len(queries))))
        first.setdefault(label, index)
        if len(first) == QUERIES:
            break
    return [first[label] for label in sorted(first)]


def caption(item: dict, names, distance: float | None = None) -> str:
    """Name the class of an image, and its distance."""
    label = label_of(item)
    text = '' if label is None else names[label] if names else f'class {label}'
    if distance is None:
        return text
    return f'{text}\n{distance:.2f}' if text else f'{distance:.2f}'


def draw(args: argparse.Namespace) -> None:
    """Find the neighbours and draw them."""
    networks = read_networks(args.network)
    bank, queries = build_sets(networks[0].config)
    names = class_names(queries)
    indices = choose(queries, args.queries)
    shown = [queries[index] for index in indices]
    first = networks[0].model.data_preprocessor

    pictures = [[to_picture(item['inputs'], first)] for item in shown]
    captions = [[caption(item, names)] for item in shown]
    frames: list[list[str | None]] = [[None] for _ in shown]
    labelled = all(label_of(item) is not None for item in shown)
    for network in networks:
        network.model.to(args.device or get_device())
        rows = {
            name: extract_features(
                network.model,
                data,
                network.part,
                batch_size=args.batch_size,
                num_workers=args.num_workers,
            )[0]
            for name, data in (
                ('bank', bank),
                ('queries', Subset(queries, indices)),
            )
        }
        found = nearest_neighbours(rows['bank'], rows['queries'], args.k)
        for row, (item, near, index) in enumerate(
            zip(shown, *(values.tolist() for values in found), strict=True)
        ):
            for distance, place in zip(near, index, strict=True):
                other = bank[place]
                pictures[row].append(to_picture(other['inputs'], first))
                captions[row].append(caption(other, names, distance))
                same = label_of(other) == label_of(item)
                frames[row].append(
                    (SAME if same else OTHER) if labelled else None
                )
    ranks = [str(rank) for rank in range(1, args.k + 1)]
    draw_grid(
        pictures,
        args.out,
        ['query', *ranks * len(networks)],
        [f'image {index}' for index in indices],
        captions,
        title='Nearest neighbours by cosine, and their Euclidean distance '
        '(unit features, 0 to 2)',
        groups=[('', 1), *((n.name, args.k) for n in networks)],
        frames=frames,
        legend={'same class': SAME, 'another class': OTHER}
        if labelled
        else None,
        cell=1.1,
    )


if __name__ == '__main__':
    sys.exit(main())
