r"""Look at the teacher of a config before a long run.

Loads its file strictly and reports the keys that matched, the input that it
sees, how its features and embeddings of different images spread, and its
k-NN accuracy on labelled images: the `bank` and `query` of the config or of
its KNNProbeHook, or a folder. Ends with status 1 if the teacher is dead or
collapsed.

Examples:
    python tools/analysis/check_teacher.py CONFIG
    python tools/analysis/check_teacher.py CONFIG --labelled data/imagenet100
    python tools/analysis/check_teacher.py CONFIG \
        --cfg-options model.teacher.checkpoint=checkpoints/mine.pth
"""

import argparse
import json
import sys

from mmengine.config import DictAction
from mmengine.device import get_device
from mmengine.logging import MMLogger

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.evaluation.cli import add_reading
from mmssd.evaluation.teacher_report import check_teacher


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of the run')
    parser.add_argument(
        '--images', type=int, default=256, help='for the statistics'
    )
    parser.add_argument(
        '--labelled',
        metavar='FOLDER',
        help='with train/<class>/ and val/<class>/, for the k-NN accuracy',
    )
    parser.add_argument(
        '--size', type=int, default=224, help='crop of these, in pixels'
    )
    parser.add_argument(
        '--knn',
        action=argparse.BooleanOptionalAction,
        help='demand the k-NN accuracy, or leave it out; by default if there '
        'are labelled images',
    )
    parser.add_argument('--k', type=int, default=20, help='of the k-NN')
    add_reading(parser, batch_size=64)
    parser.add_argument(
        '--out', metavar='FILE', help='write the report there, as JSON'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value',
    )
    return parser.parse_args(argv)


def _numbers(values: dict) -> str:
    return ', '.join(f'{name} {value:.4g}' for name, value in values.items())


def _lines(report: dict) -> list[str]:
    """Say a report in a few lines."""
    file, seen = report['file'], report['input']
    lines = [f'file: {file["checkpoint"]}']
    if file['layout']:
        matched = ', '.join(
            f'{part} {count}' for part, count in file['matched_keys'].items()
        )
        lines += [
            f'  sha256 {file["sha256"]}',
            f'  layout {file["layout"]}; keys matched: {matched}; not used: '
            f'{file["unused_keys"]}',
        ]
    mean, std = (
        ', '.join(f'{value:.3f}' for value in seen[name])
        for name in ('mean', 'std')
    )
    lines += [
        f'input, normalised by {seen["normalised_by"]}: '
        f'{seen["size"][0]} x {seen["size"][1]} pixels, mean ({mean}), '
        f'std ({std}) of {report["images"]} images',
        f'features: {_numbers(report["features"])}',
    ]
    if report['embeddings'] is not None:
        lines.append(f'embeddings: {_numbers(report["embeddings"])}')
    if report['knn_top1'] is not None:
        lines.append(f'k-NN: {report["knn_top1"]:.2f} % top-1')
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print the report; return 1 if the teacher is not fit to teach."""
    args = parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        report = check_teacher(
            load_config(args.config, args.cfg_options),
            args.images,
            args.batch_size,
            args.num_workers,
            args.device or get_device(),
            args.labelled,
            args.size,
            args.knn,
            args.k,
        )
        print('\n'.join(_lines(report)))
        if args.out:
            with open(args.out, 'w') as file:
                file.write(json.dumps(report, indent=1) + '\n')
        for finding in report['findings']:
            print(f'WARNING: {finding}')
        if not report['findings']:
            print('nothing wrong was found')
        return int(bool(report['findings']))


if __name__ == '__main__':
    sys.exit(main())
