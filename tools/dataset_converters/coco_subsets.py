r"""Draw the subsets of COCO on which OSS compares: COCO-1K and COCO-10K.

Five random subsets of every size, from one seed, no image in two of the same
size; written beside the annotations as NAME_1k_1.json, ..., NAME_10k_5.json.
They are read again and checked: disjoint, and which classes they lack.

Example:
    python tools/dataset_converters/coco_subsets.py \
        data/coco/annotations/instances_train2017.json
"""

import argparse
import json
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.datasets.coco_subsets import (
    COUNT,
    check_images,
    check_subsets,
    coco_subsets,
)


def short(number: int) -> str:
    """Write 1000 as ``1k``."""
    return f'{number // 1000}k' if number % 1000 == 0 else str(number)


def main(argv: list[str] | None = None) -> None:
    """Write the subsets, and say what they lack."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('annotations', type=Path, help='file of COCO')
    parser.add_argument('--sizes', type=int, nargs='+', default=[1000, 10_000])
    parser.add_argument('--count', type=int, default=COUNT, help='subsets')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out-dir', type=Path, help='default: beside them')
    parser.add_argument(
        '--images', type=Path, help='check that all images are there'
    )
    parser.add_argument('--force', action='store_true', help='replace files')
    args = parser.parse_args(argv)
    with readable_errors():
        if not args.annotations.is_file():
            raise FileNotFoundError(f'there is no {args.annotations}')
        content = json.loads(args.annotations.read_text())
        for key in ('images', 'annotations', 'categories'):
            if key not in content:
                raise ValueError(f'{args.annotations} has no {key!r}')
        if args.images:
            check_images(content, args.images)
        folder = args.out_dir or args.annotations.parent
        folder.mkdir(parents=True, exist_ok=True)
        stem = f'{args.annotations.stem}_'
        # all sizes before the first file: nothing is left half done
        drawn = {
            size: coco_subsets(content, size, args.count, args.seed)
            for size in args.sizes
        }
        paths = {
            size: [
                folder / f'{stem}{short(size)}_{number}.json'
                for number in range(1, args.count + 1)
            ]
            for size in drawn
        }
        there = [
            str(p) for found in paths.values() for p in found if p.exists()
        ]
        if there and not args.force:
            raise FileExistsError(
                f'{", ".join(there)} exist: --force replaces them'
            )
        for size, subsets in drawn.items():
            for path, subset in zip(paths[size], subsets, strict=True):
                path.write_text(json.dumps(subset))
            written = [json.loads(path.read_text()) for path in paths[size]]
            for path, subset, absent in zip(
                paths[size], written, check_subsets(written), strict=True
            ):
                lacking = (
                    f'without {", ".join(absent)}'
                    if absent
                    else (f'all {len(subset["categories"])} classes')
                )
                print(
                    f'{path}: {len(subset["images"])} images, '
                    f'{len(subset["annotations"])} annotations, {lacking}'
                )
            print(f'the {args.count} subsets of {size} are disjoint')


if __name__ == '__main__':
    sys.exit(main())
