r"""Draw where the class token of vision transformers looks.

A row for each image and network, with the mean over the heads and every head
of one layer. Each map is scaled by its own largest weight, which stands below
it in percent, as does the sum over all patches (the rest of the attention
goes to the class token itself and its like).

Examples:
    python tools/analysis/attention.py --out attention.png \
        --network DINO DINO_CONFIG dino.pth --images a.jpg b.jpg
    python tools/analysis/attention.py --out attention.png --layer 0 \
        --network teacher DISCO_CONFIG disco.pth teacher \
        --network student DISCO_CONFIG disco.pth --images a.jpg
"""

import argparse
import sys

import torch
from mmengine.logging import MMLogger

from mmssd.apis.cli import readable_errors
from mmssd.visualization.attention import class_attention, enlarge
from mmssd.visualization.networks import (
    add_images,
    add_networks,
    read_networks,
    take_images,
    to_picture,
)
from mmssd.visualization.pictures import draw_grid, heat


def main(argv: list[str] | None = None) -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_networks(parser)
    add_images(parser)
    parser.add_argument('--out', required=True, help='PNG file to write')
    parser.add_argument(
        '--layer',
        type=int,
        default=-1,
        help='from 0, or from the end (default: -1, the last)',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        draw(args)
        print(args.out)


def share(weights: torch.Tensor) -> str:
    """Say what part of the attention is in a map."""
    return (
        f'largest {100 * weights.max():.2g} %\n'
        f'all patches {100 * weights.sum():.0f} %'
    )


def draw(args: argparse.Namespace) -> None:
    """Compute the maps and draw them."""
    rows: dict[str, list] = {}  # of all networks, by image
    for network in read_networks(args.network):
        images = take_images(network.config, args.images, args.queries)
        for name, image in images.items():
            shown = to_picture(image, network.model.data_preprocessor)
            found = class_attention(
                network.backbone, network.prepare(image[None]), args.layer
            )
            heads = found.maps[0]
            maps = torch.cat([heads.mean(dim=0, keepdim=True), heads])
            rows.setdefault(name, []).append(
                (
                    f'{network.name}\n{name}',
                    [
                        shown,
                        *(
                            heat(shown, enlarge(m, *shown.shape[:2]))
                            for m in maps
                        ),
                    ],
                    [
                        '',
                        *(share(m) for m in maps),
                    ],
                )
            )
    lines = [line for found in rows.values() for line in found]
    wide = max(len(pictures) for _, pictures, _ in lines)

    where = 'last layer' if args.layer == -1 else f'layer {args.layer}'

    def fill(values: list, empty) -> list:
        return [*values, *[empty] * (wide - len(values))]

    draw_grid(
        [fill(pictures, None) for _, pictures, _ in lines],
        args.out,
        ['image', 'mean', *(f'head {head + 1}' for head in range(wide - 2))],
        [name for name, _, _ in lines],
        [fill(captions, '') for _, _, captions in lines],
        title=f'Attention of the class token, {where}. Blue: none; red: the '
        'largest of the map',
        cell=1.6,
    )


if __name__ == '__main__':
    sys.exit(main())
