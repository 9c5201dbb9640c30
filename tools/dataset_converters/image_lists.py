r"""Write lists of labelled images, which configs name as `ann_file`.

A share of the labels of every class: the published list if you have it, else
a draw by a seed, which a file beside the list says. A few images of every
class (low-shot). Some of the classes, for training and validation.
Tiny-ImageNet's two lists.

Examples:
    python tools/dataset_converters/image_lists.py data/imagenet \
        --fraction 0.01
    python tools/dataset_converters/image_lists.py data/imagenet \
        --fraction 0.1 --published 10percent.txt
    python tools/dataset_converters/image_lists.py data/places365 \
        --per-class 4 --seed 1
    python tools/dataset_converters/image_lists.py data/imagenet \
        --classes imagenet100.txt
    python tools/dataset_converters/image_lists.py data/tiny-imagenet-200 \
        --tiny-imagenet
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mmssd.apis.cli import readable_errors
from mmssd.datasets.image_lists import (
    list_folder,
    published_list,
    stratified_list,
    tiny_imagenet_val,
    write_list,
)


def main(argv: list[str] | None = None) -> None:
    """Write the lists into ROOT/meta."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', type=Path, help='folder with train and val')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        '--fraction', type=float, help='share of every class, in (0, 1]'
    )
    what.add_argument(
        '--per-class', type=int, help='images of every class, at least 1'
    )
    what.add_argument(
        '--classes', help='file with the folder name of one class a line'
    )
    what.add_argument(
        '--num-classes', type=int, help='draw that many classes by --seed'
    )
    what.add_argument(
        '--tiny-imagenet', action='store_true', help='its train and val'
    )
    parser.add_argument(
        '--published', type=Path, help='published list of that share'
    )
    parser.add_argument('--seed', type=int, default=0, help='of a draw')
    parser.add_argument(
        '--force', action='store_true', help='replace lists that are there'
    )
    args = parser.parse_args(argv)
    with readable_errors():
        run(args)


def run(args: argparse.Namespace) -> None:
    """Make what was asked for, and say what was written."""
    root, train = args.root, args.root / 'train'
    if args.published and args.fraction is None:
        raise ValueError('--published goes with --fraction')

    def write(name, samples, origin):
        path = write_list(root / 'meta' / name, samples, origin, args.force)
        print(f'{path}: {len(samples)} images, {origin}')

    if args.tiny_imagenet:
        classes = sorted(p.name for p in train.iterdir() if p.is_dir())
        write('train.txt', list_folder(train, classes), 'all of train')
        write('val.txt', tiny_imagenet_val(root, classes), 'all of val')
        return
    if args.fraction is not None or args.per_class is not None:
        samples = list_folder(train)
        if args.published:
            lines = args.published.read_text().splitlines()
            chosen = published_list(lines, samples, args.fraction)
            origin = f'published list {args.published.name}'
        else:
            chosen = stratified_list(
                samples, args.fraction, args.seed, args.per_class
            )
            origin = (
                f'stratified draw of mmssd, seed {args.seed}; not a '
                'published list'
            )
        share = f'{args.per_class}perclass'
        if args.fraction is not None:
            share = f'{100 * args.fraction:g}percent'
        write(f'train_{share}.txt', chosen, origin)
        return
    if args.classes:
        lines = Path(args.classes).read_text().split('\n')
        classes = [line.split()[0] for line in lines if line.strip()]
        origin = f'classes of {Path(args.classes).name}'
    else:
        found = sorted(p.name for p in train.iterdir() if p.is_dir())
        if not 1 <= args.num_classes <= len(found):
            raise ValueError(
                f'--num-classes {args.num_classes}: {train} has {len(found)}'
            )
        draw = np.random.RandomState(args.seed).permutation(len(found))
        classes = sorted(found[i] for i in draw[: args.num_classes])
        origin = f'classes drawn by mmssd, seed {args.seed}'
    for split in ('train', 'val'):
        write(
            f'{split}_{len(classes)}classes.txt',
            list_folder(root / split, classes),
            origin,
        )


if __name__ == '__main__':
    sys.exit(main())
