r"""Compute what a frozen teacher says once, for all training runs under it.

The config says how many draws of views an image has, and where the rows go:

    teacher_cache = dict(path='work_dirs/cache/NAME', draws=10, seed=0)

This tool fills the folder, with progress; interrupted, it goes on where it
was. `tools/train.py` with the same config looks the teacher up there instead
of running it, in any number of runs, and refuses the cache of another
teacher, recipe of views or list of images.

Examples:
    python tools/cache_teacher.py CONFIG --cfg-options \
        teacher_cache.path=work_dirs/cache/r50 teacher_cache.draws=10
    python tools/train.py CONFIG --cfg-options \
        teacher_cache.path=work_dirs/cache/r50 teacher_cache.draws=10
    python tools/cache_teacher.py CONFIG --images bank --out-dir FOLDER
    python tools/dataset_converters/pseudo_labels.py CONFIG --part teacher \
        --teacher-cache FOLDER --out-dir data/imagenet/meta/NAME
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction
from mmengine.device import get_device
from mmengine.logging import MMLogger

from mmssd.apis import config as configs
from mmssd.apis.cli import readable_errors
from mmssd.apis.teacher_cache import cache_by_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of a distiller')
    parser.add_argument(
        '--out-dir', type=Path, help='folder (default: teacher_cache.path)'
    )
    parser.add_argument(
        '--images',
        choices=['train', 'bank'],
        default='train',
        help='views of the training, or the images that pseudo_labels.py '
        'clusters',
    )
    parser.add_argument(
        '--batch-size', type=int, default=256, help='rows at a time'
    )
    parser.add_argument(
        '--num-workers', type=int, default=0, help='processes that read'
    )
    parser.add_argument(
        '--amp', action='store_true', help='run the teacher in bfloat16'
    )
    parser.add_argument(
        '--device', help='cpu, cuda, ...; by default what there is'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Make the cache, or complete it."""
    args = parse_args(argv)
    MMLogger.get_instance('cache_teacher', log_level='INFO')

    def explain_interrupt() -> str:
        return 'interrupted; the same command goes on from here'

    with readable_errors(explain_interrupt):
        if args.batch_size < 1:
            raise ValueError(
                f'--batch-size {args.batch_size}: must be at least 1'
            )
        cfg = configs.load_config(args.config, args.cfg_options)
        configs.check_data_roots(cfg)
        cache = cache_by_config(
            cfg,
            args.out_dir,
            args.images,
            args.device or get_device(),
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            amp=args.amp,
        )
        size = sum(array.nbytes for array in cache.arrays.values())
        print(
            f'{cache.folder}: {cache.images} images, {cache.draws} draw(s), '
            f'{", ".join(cache.arrays)} of {len(cache.views)} view(s), '
            f'{size / 2**20:.1f} MiB'
        )


if __name__ == '__main__':
    sys.exit(main())
