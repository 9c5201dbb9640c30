r"""Prepare the small real data sets of the transfer suite `small`.

SOURCE has cifar10_jpeg.npz, tinyimagenet100_jpeg.npz (JPEG files in arrays),
coco_mini.tar, camvid.tar and kangaroo_raccoon_voc.tar, or the folders that
these were unpacked to; what is not there is left out. Everything is checked.

Examples:
    python tools/dataset_converters/small_sets.py SOURCE --out data/small
    python tools/dataset_converters/small_sets.py SOURCE --only camvid
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.datasets.small_sets import SETS, make_small_sets


def main(argv: list[str] | None = None) -> None:
    """Convert what is there, and say how many images it has."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', type=Path, help='folder of the files')
    parser.add_argument('--out', type=Path, default=Path('data/small'))
    parser.add_argument(
        '--only', nargs='+', default=[], choices=sorted(SETS), metavar='SET'
    )
    parser.add_argument(
        '--force', action='store_true', help='replace what is there'
    )
    args = parser.parse_args(argv)
    with readable_errors():
        make_small_sets(args.source, args.out, args.only, args.force)


if __name__ == '__main__':
    sys.exit(main())
