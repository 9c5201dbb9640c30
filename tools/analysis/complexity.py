"""Count parameters and FLOPs of teacher and student.

A table with a row for each part of each network: millions of parameters, and
operations of one image in the forward direction (a fused multiply-add is one,
as mmengine counts), for every size of its views and in sum over all views of
a training image that the network sees. A projector runs as often as in
training, dropout views included. Of detectors and segmentors all parts are
counted, the head for regions at as many as the test takes at most; what
mmengine's counter cannot trace is named below the table.

Examples:
    python tools/analysis/complexity.py CONFIG
    python tools/analysis/complexity.py CONFIG --views 1x224 --out cost.json
    python tools/analysis/complexity.py DETECTOR --views 1x800x1333
"""

import argparse
import json
import sys

from mmengine.config import DictAction
from mmengine.logging import MMLogger

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.visualization.complexity import Part, network_complexity
from mmssd.visualization.views import view_sizes


def read_views(texts: list[str]) -> list[tuple[int, int]]:
    """Return the size of every view.

    Raises:
        ValueError: if a text is not such a number of views.
    """
    sizes = []
    for text in texts:
        number, *sides = text.split('x')
        if not all(t.isdigit() and int(t) for t in (number, *sides)) or len(
            sides
        ) not in (1, 2):
            raise ValueError(
                f'--views {text}: must be NUMBERxSIZE or NUMBERxHEIGHTxWIDTH'
            )
        sizes += [(int(sides[0]), int(sides[-1]))] * int(number)
    return sizes


def table(parts: list[Part]) -> list[list[str]]:
    """Return the cells, the first row with the titles."""
    sizes = sorted({size for part in parts for size in part.flops})[::-1]
    lines = [
        [
            *('network', 'part', 'parameters (M)'),
            *(f'MFLOPs, {h} x {w} px' for h, w in sizes),
            'MFLOPs, a training image',
        ]
    ]

    def shown(flops: int | None) -> str:
        return '-' if flops is None else f'{flops / 1e6:.2f}'

    for part in parts:
        lines.append(
            [
                *(part.network, part.part, f'{part.parameters / 1e6:.3f}'),
                *(shown(part.flops.get(size)) for size in sizes),
                shown(part.per_image),
            ]
        )
    return lines


def main(argv: list[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--views',
        nargs='+',
        metavar='NxSIZE',
        help='views of an image, such as 2x224 6x96 or 1x512x1024 (default: '
        'those that the config makes)',
    )
    parser.add_argument('--out', metavar='FILE', help='write JSON there')
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
        config = load_config(args.config, args.cfg_options)
        sizes = read_views(args.views) if args.views else view_sizes(config)
        parts = network_complexity(config, sizes)
        lines = table(parts)
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ['-' * width for width in wide])
        for line in lines:
            cells = [
                cell.ljust(width) if number < 2 else cell.rjust(width)
                for number, (cell, width) in enumerate(
                    zip(line, wide, strict=True)
                )
            ]
            print(f'| {" | ".join(cells)} |')
        missed = sorted({name for part in parts for name in part.missed})
        if missed:
            print(f'not counted: {", ".join(missed)}')
        if args.out:
            record = dict(
                config=args.config,
                views=sizes,
                parts=[
                    dict(
                        vars(part),
                        flops={
                            f'{h}x{w}': n for (h, w), n in part.flops.items()
                        },
                    )
                    for part in parts
                ],
            )
            with open(args.out, 'w') as file:
                json.dump(record, file, indent=1)
                file.write('\n')


if __name__ == '__main__':
    sys.exit(main())
