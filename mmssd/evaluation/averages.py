"""Results of several runs, averaged, with their spread."""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

# of a record of a validation, what is no metric
NO_METRIC = ('time', 'data_time', 'step', 'memory')
# A detector that finds nothing is not evaluated by mmdet: it has no metrics.
DETECTION = ('coco/', 'pascal_voc/')


def last_metrics(run: str | Path) -> dict[str, float]:
    """Return the metrics of the last validation of a run.

    Args:
        run: its work folder, or the ``.json`` that ``tools/test.py --out``
            wrote.

    Returns:
        Numbers by name; empty if a detector found nothing.

    Raises:
        FileNotFoundError: if there is no such run, or it has no log.
        ValueError: if it was never validated.
    """
    run = Path(run)
    if run.is_file():
        return _metrics(json.loads(run.read_text()))
    if not run.is_dir():
        raise FileNotFoundError(f'there is no run {run}')
    # one folder for each start; their names are times
    logs = sorted(run.glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(
            f'{run} has no log: expected {run}/*/vis_data/scalars.json'
        )
    last = None
    for log in logs:
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if 'iter' not in record and 'epoch' not in record:
                last = record
    if last is None:
        raise ValueError(f'{run} was never validated')
    return _metrics(last)


def _metrics(record: dict) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, (int, float)) and name not in NO_METRIC
    }


def initialisation(run: str | Path) -> str | None:
    """Return what a run said that it started from, if it did.

    Args:
        run: its work folder.
    """
    said = None
    for log in sorted(Path(run).glob('*/*.log')):
        for line in log.read_text(errors='replace').splitlines():
            found = re.search(r'initialisation: (.*)', line)
            # a resumed run repeats what its first start said
            if found and said is None:
                said = found.group(1)
    return said


def average_metrics(
    results: Sequence[dict[str, float]],
) -> dict[str, dict[str, float | int | list[float]]]:
    """Average the metrics of runs that differ in seed or split.

    Args:
        results: metrics of each run, see :func:`last_metrics`. One without
            any, among detectors, found nothing and counts as 0.

    Returns:
        By metric: ``mean``, ``std`` (of the sample, n - 1; 0 for one run),
        ``min``, ``max``, ``n`` and the ``values`` in the order of the runs.

    Raises:
        ValueError: if there is nothing to average, or the runs have
            different metrics.
    """
    names = list(dict.fromkeys(name for found in results for name in found))
    if not names:
        raise ValueError('not one run has a metric')
    averages = {}
    for name in names:
        values = []
        for number, found in enumerate(results, 1):
            if name in found:
                values.append(found[name])
            elif not found and name.startswith(DETECTION):
                values.append(0.0)
            else:
                raise ValueError(
                    f'run {number} has no {name!r}; it has '
                    f'{", ".join(found) or "no metrics"}: average runs of '
                    'one kind'
                )
        averages[name] = dict(
            mean=statistics.fmean(values),
            std=statistics.stdev(values) if len(values) > 1 else 0.0,
            min=min(values),
            max=max(values),
            n=len(values),
            values=values,
        )
    return averages
