"""What several runs logged, against each other."""

import fnmatch
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .pictures import draw_lines

UNITS = {  # by the end of a key
    'top1': '%',
    'top5': '%',
    'time': 'seconds per iteration',
    'memory': 'MiB',
    'mIoU': '%',
}
AXES = ('iteration', 'minutes')
NOT_DRAWN = ('iter', 'step', 'epoch')


class Point(NamedTuple):
    """One logged number.

    Attributes:
        iteration: at which it was logged.
        minutes: of training up to there.
        value: the number.
        training: logged by the training, not by a validation or a probe.
    """

    iteration: int
    minutes: float
    value: float
    training: bool


Curve = list[Point]


def read_curves(run: str | Path) -> dict[str, Curve]:
    """Read every logged number of a run.

    A run that was resumed has one log per start: what an earlier one logged
    beyond the iteration at which a later one goes on does not count.

    Args:
        run: work folder, with ``*/vis_data/scalars.json``; or such a file.

    Returns:
        Points by key. Records of a validation, which name no iteration, stand
        at their step if that lies between the iterations around them (it may
        be an epoch), else at the iteration before; they take no time. Of
        what both log, the training counts.

    Raises:
        FileNotFoundError: if there is no log.
        ValueError: if a line is not a record, or nothing was logged.
    """
    run = Path(run)
    files = [run] if run.is_file() else sorted(run.rglob('scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'{run}: no scalars.json there or below; give the work folder of '
            'a run'
        )
    curves: dict[str, Curve] = {}
    for path in files:
        for key, points in _read_file(path, curves).items():
            curves.setdefault(key, []).extend(points)
    if not curves:
        raise ValueError(f'{run}: nothing was logged yet')
    return {
        # the time of a step, say, is not that of a validation's
        key: [p for p in points if p.training] or points
        for key, points in curves.items()
    }


def _read_file(path: Path, before: dict[str, Curve]) -> dict[str, Curve]:
    """Read the log of one start; cut what came before where it goes on."""
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            record.items()
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f'{path}, line {number}: not a record of a log ({error})'
            ) from error
        records.append(record)
    steps = [record['iter'] for record in records if 'iter' in record]
    gap = steps[1] - steps[0] if len(steps) > 1 else 0
    start = max(0, steps[0] - gap) if steps else 0
    if before and steps:
        for points in before.values():
            points[:] = [p for p in points if p.iteration <= start]
    known = [point[:2] for points in before.values() for point in points]
    iteration, minutes = max(known, default=(0, 0.0))
    iteration = max(iteration, start)
    coming = [*steps, (steps[-1] if steps else 0) + gap]
    curves: dict[str, Curve] = {}
    for record in records:
        training = 'iter' in record
        if training:
            coming.pop(0)
            passed = max(0, record['iter'] - iteration)
            minutes += passed * record.get('time', 0.0) / 60
            iteration = place = record['iter']
        else:
            step = record.get('step', iteration)
            place = step if iteration <= step <= coming[0] else iteration
        for key, value in record.items():
            if key in NOT_DRAWN or not isinstance(value, (int, float)):
                continue
            point = Point(place, minutes, value, training)
            curves.setdefault(key, []).append(point)
    return curves


def choose_keys(
    runs: dict[str, dict[str, Curve]], patterns: Sequence[str]
) -> list[str]:
    """Return the logged keys that some pattern matches, in its order.

    Args:
        runs: curves by key, by name.
        patterns: of the shell: ``*`` for anything.

    Raises:
        ValueError: if a pattern matches none, with what there is.
    """
    known = sorted({key for curves in runs.values() for key in curves})
    keys: list[str] = []
    for pattern in patterns:
        found = [key for key in known if fnmatch.fnmatchcase(key, pattern)]
        if not found:
            raise ValueError(
                f'no run logged {pattern!r}; there are {", ".join(known)}'
            )
        keys += [key for key in found if key not in keys]
    return keys


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Return the mean of each value and its neighbours.

    Of ``window // 2`` of them on either side, fewer at both ends, but always
    as many before as after, so that a straight line stays one.

    Args:
        values: in the order of time.
        window: at least 1, odd.
    """
    totals = np.cumsum([0.0, *values])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, index[::-1]), window // 2)
    start, stop = index - half, index + half + 1
    return (totals[stop] - totals[start]) / (stop - start)


def plot_curves(
    runs: dict[str, dict[str, Curve]],
    keys: Sequence[str],
    path: str | Path,
    axis: str = 'iteration',
    log: bool = False,
    window: int = 1,
) -> None:
    """Draw a panel for each key with a line for each run.

    With smoothing the values themselves stand behind it, pale. What a
    validation or a probe logged is not smoothed.

    Args:
        runs: see :func:`read_curves`, by name.
        keys: to draw.
        path: PNG file to write.
        axis: ``'iteration'`` or ``'minutes'`` of training.
        log: a logarithmic axis of values; what is not above 0 is left out.
        window: records to average, odd, see :func:`smooth`.

    Raises:
        ValueError: for an argument out of range, or if nothing can be drawn.
    """
    if axis not in AXES:
        raise ValueError(f'axis={axis!r}: must be one of {AXES}')
    if window < 1 or window % 2 == 0:
        raise ValueError(f'window={window}: must be odd, at least 1')
    panels = {}
    for key in keys:
        name = re.split(r'[./]', key)[-1]
        unit = next((u for k, u in UNITS.items() if name.endswith(k)), None)
        label = unit or name
        lines = {}
        for run, curves in runs.items():
            points = curves.get(key)
            if not points:
                continue
            x = [point[AXES.index(axis)] for point in points]
            y = [point.value for point in points]
            smoothed = window > 1 and all(p.training for p in points)
            lines[run] = (x, y, smooth(y, window if smoothed else 1))
            if smoothed and 'mean' not in label:
                label += f', mean of {window} records'
        panels[key] = (label, lines)
    draw_lines(
        panels,
        path,
        list(runs),
        'iteration' if axis == 'iteration' else 'minutes of training',
        log,
    )
