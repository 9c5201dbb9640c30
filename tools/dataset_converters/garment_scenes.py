"""Make the garment scenes, the data of the demo.

With ``--preview work_dirs/garments.png`` it also draws samples.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

from mmssd.datasets.fashion_mnist import CLASSES, fashion_mnist
from mmssd.datasets.garment_scenes import (
    SEMANTIC_PALETTE,
    SINGLE_SCALE,
    SPLITS,
    make_garment_scenes,
)

ZOOM = 2  # of the preview
GAP = 4  # pixels between its tiles


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--out', default='data/garments', help='target folder')
    add(
        '--garments',
        default='data/fashion_mnist',
        help='folder of Fashion-MNIST, fetched into it if need be',
    )
    add('--seed', type=int, default=0)
    pair = dict(type=int, nargs=2, metavar=('TRAIN', 'VAL'))
    add('--single', default=(40_000, 5_000), help='scenes', **pair)
    add('--multi', default=(2_000, 500), help='scenes', **pair)
    add('--single-size', type=int, default=32, help='side in pixels')
    add(
        '--single-scale',
        type=float,
        nargs=2,
        default=SINGLE_SCALE,
        metavar=('LOW', 'HIGH'),
        help='longer side of the garment, fraction of the scene',
    )
    add('--multi-size', type=int, default=128, help='side in pixels')
    add('--workers', type=int, help='processes, default: all cores')
    add('--preview', help='write a picture of samples to this file')
    return parser.parse_args()


def tile(images: list[np.ndarray], columns: int) -> np.ndarray:
    """Put pictures of one size into rows of ``columns``, on white."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * (height + GAP), columns * (width + GAP), 3), 255, np.uint8
    )
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        y, x = row * (height + GAP), column * (width + GAP)
        sheet[y : y + height, x : x + width] = image
    return sheet


def draw_instances(image: np.ndarray, annotations: list[dict]) -> np.ndarray:
    """Enlarge an RGB scene, draw boxes, outlines of masks, and names."""
    from pycocotools import mask as coco_mask

    picture = cv2.resize(
        image, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST
    )
    for item in annotations:
        colour = SEMANTIC_PALETTE[item['category_id']]
        x, y, w, h = (int(v * ZOOM) for v in item['bbox'])
        cv2.rectangle(picture, (x, y), (x + w - 1, y + h - 1), colour, 1)
        mask = coco_mask.decode(item['segmentation'])
        mask = cv2.resize(
            mask, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST
        )
        outlines, _ = cv2.findContours(
            mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outlines, -1, colour, 1)
        cv2.putText(
            picture,
            CLASSES[item['category_id'] - 1],
            (x + 2, y + 9),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.33,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
    return picture


def preview(folder: Path, split: str) -> np.ndarray:
    """Return a sheet of single and multi scenes of one split, RGB."""
    tiles, width = [], 8 * (128 * ZOOM + GAP)
    columns = width // (64 + GAP)
    singles = np.load(folder / f'single_{split}_images.npy', mmap_mode='r')
    singles = singles[: 4 * columns]
    if len(singles):
        enlarged = [
            cv2.resize(s, (64, 64), interpolation=cv2.INTER_NEAREST)
            for s in singles
        ]
        tiles.append(tile(enlarged, columns))
    coco = json.loads((folder / f'multi/instances_{split}.json').read_text())
    scenes = []
    for image in coco['images'][:8]:
        paths = [
            str(folder / 'multi' / split / kind / image['file_name'])
            for kind in ('images', 'semantic')
        ]
        pixels = cv2.imread(paths[0])[..., ::-1]
        semantic = cv2.imread(paths[1], cv2.IMREAD_GRAYSCALE)
        own = [a for a in coco['annotations'] if a['image_id'] == image['id']]
        colours = np.array(SEMANTIC_PALETTE, np.uint8)[semantic]
        scenes.append(
            (draw_instances(pixels, own), draw_instances(colours, []))
        )
    if scenes:
        drawn, maps = zip(*scenes, strict=True)
        side = drawn[0].shape[1] + GAP
        tiles.append(tile([*drawn, *maps], max(1, min(8, width // side))))
    if not tiles:
        raise ValueError(f'{folder} holds no {split} scenes to preview')
    width = max(sheet.shape[1] for sheet in tiles)
    return np.concatenate(
        [
            np.pad(
                sheet,
                ((0, 0), (0, width - sheet.shape[1]), (0, 0)),
                constant_values=255,
            )
            for sheet in tiles
        ]
    )


def main() -> None:
    """Make the scenes, and the preview if asked for."""
    args = parse_args()
    try:
        manifest = make_garment_scenes(
            args.out,
            fashion_mnist(args.garments),
            seed=args.seed,
            single=args.single,
            multi=args.multi,
            single_size=args.single_size,
            single_scale=args.single_scale,
            multi_size=args.multi_size,
            num_workers=args.workers,
        )
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f'error: {error}')
    print(
        f'{args.out}: {sum(manifest["single"])} single and '
        f'{sum(manifest["multi"])} multi scenes'
    )
    if args.preview:
        sheet = np.concatenate(
            [preview(Path(args.out), split) for split in SPLITS]
        )
        path = Path(args.preview)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), sheet[..., ::-1])
        print(f'{path}: train above, val below')


if __name__ == '__main__':
    main()
