r"""Draw the views that a config feeds to its networks in training.

A row for each image: the source, then every view after the augmentation,
turned back into pixels from what the networks see. Above each view stand its
index, whether it is a global crop or a small one, its size, and the networks
whose objectives read it. The config's own pipeline and data preprocessor
make them, in the loader or on the device; a config with SeededViews feeds
some that are drawn in advance, and below the source stands which draw it is.

Examples:
    python tools/analysis/views.py CONFIG --out views.png
    python tools/analysis/views.py CONFIG --out views.png --indices 0 7 42
    python tools/analysis/views.py CONFIG --out views.png \
        --images a.jpg b.jpg --draws 2 --seed 1
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction
from mmengine.logging import MMLogger

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.visualization.pictures import draw_grid
from mmssd.visualization.views import make_views


def main(argv: list[str] | None = None) -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', required=True, help='PNG file to write')
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--indices',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='images of the training set (default: 0 1 2)',
    )
    group.add_argument(
        '--images',
        nargs='+',
        metavar='FILE',
        help='or files, for a pipeline that reads some',
    )
    parser.add_argument(
        '--draws', type=int, default=1, help='rows of each image (default: 1)'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        draw(args)
        print(args.out)


def draw(args: argparse.Namespace) -> None:
    """Make the views and draw them."""
    for path in args.images or []:
        if not Path(path).is_file():
            raise FileNotFoundError(f'--images: there is no image {path}')
    if args.draws < 1:
        raise ValueError(f'--draws {args.draws}: must be at least 1')
    config = load_config(args.config, args.cfg_options)
    names = [Path(path).stem for path in args.images or []] or [
        f'image {index}' for index in args.indices
    ]
    repeat = args.draws
    views = make_views(
        config,
        args.images and [p for p in args.images for _ in range(repeat)],
        [index for index in args.indices for _ in range(repeat)],
        args.seed,
    )
    draw_grid(
        [
            [source, *(view[row] for view in views.pictures)]
            for row, source in enumerate(views.sources)
        ],
        args.out,
        ['source', *views.labels],
        [
            f'{name}, draw {draw + 1}' if repeat > 1 else name
            for name in names
            for draw in range(repeat)
        ],
        [
            [
                f'{s.shape[1]} x {s.shape[0]} px\n{note}'.strip(),
                *[''] * len(views.pictures),
            ]
            for s, note in zip(views.sources, views.notes, strict=True)
        ],
        title=f'Views of {Path(args.config).stem}, seed {args.seed}',
        cell=1.7,
    )


if __name__ == '__main__':
    sys.exit(main())
