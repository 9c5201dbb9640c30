"""Take one backbone out of a checkpoint, and prove that the file works.

Examples:
    python tools/model_converters/extract_backbone.py RUN.pth STUDENT.pth
    python tools/model_converters/extract_backbone.py RUN.pth STUDENT.pth \
        --layout torchvision

Refused is what the other library computes otherwise, or does not have: an
EfficientNet that pads as TensorFlow (mmpretrain's own conv_cfg) is timm's
tf_efficientnet, and none of torchvision; RegNetY-600MF is timm's alone; other
widths of MobileNetV2 than those of timm go to torchvision only.
"""

import argparse

from mmssd.apis.cli import readable_errors
from mmssd.apis.export import LAYOUTS, PARTS, export_backbone


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source', help='checkpoint of a run')
    parser.add_argument('target', help='file to write')
    parser.add_argument(
        '--part',
        choices=list(PARTS),
        default='student',
        help='network to take (default: %(default)s); of a teacher only one '
        'that was trained in the run',
    )
    parser.add_argument(
        '--layout',
        choices=list(LAYOUTS),
        default='mm',
        help='names of the keys (default: %(default)s, for '
        "init_cfg=dict(type='Pretrained', prefix='backbone.')); "
        + '; '.join(f'{name}: {kinds}' for name, kinds in LAYOUTS.items()),
    )
    parser.add_argument(
        '--config', help='config of the run, if the checkpoint has none'
    )
    parser.add_argument(
        '--force', action='store_true', help='replace the target'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Write the file and say what it was compared with."""
    args = parse_args(argv)
    with readable_errors():
        export = export_backbone(**vars(args))
        print(f'{export.path}: {export.keys} tensors, every one used')
        for name, difference in export.differences.items():
            print(f'max abs difference of features, {name}: {difference:g}')
        if export.note:
            print(f'note: {export.note}')


if __name__ == '__main__':
    main()
