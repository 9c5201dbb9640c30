"""Draw a few images of every class of a labelled folder, as a list.

Nothing is copied: the list names images by their paths within the folder
and is an ``ann_file`` of mmpretrain's ``CustomDataset`` and ``ImageNet``.

Examples:
    python tools/dataset_converters/draw_subset.py data/imagenet/train \
        data/imagenet/meta/train_50-per-class.txt --per-class 50
"""

import argparse
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.datasets.subsets import draw_subset, write_list


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('root', help='folder with a sub-folder per class')
    add('out', help='list to write, one "<path> <label>" per line')
    add('--per-class', type=int, required=True, metavar='K', help='images')
    add('--seed', type=int, default=0, help='default: %(default)s')
    add(
        '--ann-file',
        help='list of the images and labels of the folder to draw from, '
        'instead of its sub-folders',
    )
    add('--force', action='store_true', help='replace the list')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the list and say what is in it."""
    args = parse_args(argv)
    with readable_errors():
        if Path(args.out).exists() and not args.force:
            raise FileExistsError(
                f'{args.out} exists: give another name, or --force'
            )
        images = draw_subset(
            args.root, args.per_class, args.seed, args.ann_file
        )
        write_list(images, args.out)
    classes = len({label for _, label in images})
    print(
        f'{args.out}: {len(images)} images, {args.per_class} of each of '
        f'{classes} classes, seed {args.seed}'
    )


if __name__ == '__main__':
    main()
