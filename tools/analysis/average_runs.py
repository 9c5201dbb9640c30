r"""Average the last validation of several runs, with their spread.

For runs that differ in seed or split, such as the five subsets of COCO-1K. A
detector that finds nothing counts as 0.

Examples:
    python tools/analysis/average_runs.py work_dirs/coco-1k_*
    python tools/analysis/average_runs.py RUN_1 RUN_2 metrics.json \
        --metrics coco/bbox_mAP_50 coco/segm_mAP_50 --out averages.json
"""

import argparse
import json
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.evaluation.averages import (
    average_metrics,
    initialisation,
    last_metrics,
)


def main(argv: list[str] | None = None) -> None:
    """Print a line for each metric: mean, spread, values."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'runs', nargs='+', help='work folders, or metrics of tools/test.py'
    )
    parser.add_argument('--metrics', nargs='+', help='by default all')
    parser.add_argument('--out', type=Path, help='write JSON there')
    args = parser.parse_args(argv)
    with readable_errors():
        averages = average_metrics([last_metrics(run) for run in args.runs])
        unknown = set(args.metrics or ()) - averages.keys()
        if unknown:
            raise ValueError(
                f'--metrics {", ".join(sorted(unknown))}: the runs have '
                f'{", ".join(averages)}'
            )
        for run in args.runs:
            print(f'{run}: {initialisation(run) or "initialisation unknown"}')
        chosen = {name: averages[name] for name in args.metrics or averages}
        for name, found in chosen.items():
            values = ', '.join(f'{value:g}' for value in found['values'])
            print(
                f'{name}: {found["mean"]:.4g} +- {found["std"]:.2g} '
                f'({found["n"]} runs: {values})'
            )
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            record = dict(runs=args.runs, averages=chosen)
            args.out.write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
