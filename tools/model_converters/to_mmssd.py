"""Write a published checkpoint as a file of this package.

The config says which network the file holds: one with `model.teacher`, or a
fragment of configs/_base_/teachers.

Examples:
    python tools/model_converters/to_mmssd.py \
        checkpoints/moco_v2_200ep_pretrain.pth.tar checkpoints/moco.pth \
        configs/_base_/teachers/moco-v2_resnet50_200e.py
    python tools/model_converters/to_mmssd.py SEED.pth.tar STUDENT.pth \
        CONFIG --layout seed --network student
"""

import argparse

from mmssd.apis.cli import readable_errors
from mmssd.apis.convert import NETWORKS, convert_checkpoint
from mmssd.models.utils.layouts import AUTO, LAYOUTS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', help='published checkpoint')
    parser.add_argument('target', help='file to write')
    parser.add_argument('config', help='config of the network in it')
    parser.add_argument(
        '--layout',
        choices=[AUTO, *LAYOUTS],
        default=AUTO,
        help='whose file it is (default: %(default)s)',
    )
    parser.add_argument(
        '--prefix',
        default='',
        help="network inside the file, such as 'student.' of DINO's",
    )
    parser.add_argument(
        '--network',
        choices=NETWORKS,
        default='teacher',
        help='network of the config (default: %(default)s)',
    )
    parser.add_argument(
        '--no-neck',
        dest='with_neck',
        action='store_false',
        help='leave the projector out',
    )
    parser.add_argument(
        '--force', action='store_true', help='replace the target'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the file and say what it holds."""
    args = parse_args(argv)
    with readable_errors():
        done = convert_checkpoint(**vars(args))
        print(
            f'{done.path}: {done.keys} tensors from layout {done.layout}, '
            'every one used on reloading'
        )
        print(f'max abs difference of outputs: {done.difference:g}')
        print(f'not converted: {done.unused or "nothing"}')


if __name__ == '__main__':
    main()
