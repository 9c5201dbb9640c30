"""Tables of transfer results: rows are checkpoints, columns are tasks.

A cell is one run of an ordinary tool in a folder of its own. What is finished
is kept, a cell that fails does not stop the others, and the table is written
anew after each.
"""

import csv
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmssd.engine.hooks.transfer_hook import NOT_COMPARED
from mmssd.evaluation.averages import (
    DETECTION,
    average_metrics,
    initialisation,
    last_metrics,
)
from mmssd.models.utils.checkpoint import (
    URL,
    file_sha256,
    find_checkpoint,
    is_fetched,
)
from mmssd.models.utils.plan import SetupError
from mmssd.visualization.transfer_table import AT, plot_epochs, plot_table

from .cli import USER_ERRORS, explain
from .demo import ROOT
from .export import PARTS
from .suite_tasks import SUITES, Task
from .transfer import REMEDY, prove_initialisation

RANDOM = 'random'  # the row without a checkpoint
SUPERVISED = 'supervised'  # the row trained with labels on ImageNet
PAUSE = 10.0  # seconds between two lines of progress of a run
SECONDS = 'seconds.json'  # that a run has taken, over all its starts
READERS = 16  # processes of a probe that read images, at most
LINE = 100  # characters of a line of progress
STOPPING = 60.0  # seconds that an interrupted run has to stop
PROGRESS = re.compile(r'(Iter|Epoch|Features)\((\w+)\)|error: ')
ETA = re.compile(r'eta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)')
# mmpretrain's networks trained with labels, for the row ``supervised``
MODELS = {
    'resnet18': 'resnet18_8xb32_in1k',
    'resnet34': 'resnet34_8xb32_in1k',
    'resnet50': 'resnet50_8xb32_in1k',
    'mobilenet-v2': 'mobilenet-v2_8xb32_in1k',
    'mobilenet-v3-large': 'mobilenet-v3-large_8xb128_in1k',
    'efficientnet-b0': 'efficientnet-b0_3rdparty_8xb32_in1k',
    'efficientnet-b1': 'efficientnet-b1_3rdparty_8xb32_in1k',
    'vit-tiny': 'deit-tiny_4xb256_in1k',
    'xcit-tiny': 'xcit-tiny-12-p16_3rdparty_in1k',
}


@dataclass(frozen=True)
class Cell:
    """One run: a row, a task, a split and a seed."""

    row: str
    checkpoint: Path | str | None
    task: Task
    config: Path
    split: int
    seed: int
    folder: Path
    options: tuple[str, ...]
    part: str = 'student'
    gpus: int = 1

    @property
    def name(self) -> str:
        """Row, task, split and seed, for messages."""
        return str(Path(*self.folder.parts[-3:]))

    def command(self) -> list[str]:
        """Return the command line of the run."""
        python = [sys.executable, '-W', 'ignore']
        if self.task.tool != 'train':
            tool = ROOT / 'tools/analysis' / f'{self.task.tool}.py'
            command = [str(tool), str(self.config)]
            if self.checkpoint:
                command += [str(self.checkpoint), '--part', self.part]
            else:
                command += ['--init-seed', str(self.seed)]
            command += ['--out', str(self.folder / 'metrics.json')]
            command += self.task.arguments
            if self.task.many:
                command += ['--num-workers', str(_readers())]
        else:
            if self.gpus > 1:
                python += ['-m', 'torch.distributed.run', '--standalone']
                python += [f'--nproc_per_node={self.gpus}']
            command = [str(ROOT / 'tools/train.py'), str(self.config)]
            command += ['--work-dir', str(self.folder), '--resume']
            if self.gpus > 1:
                command += ['--launcher', 'pytorch']
        if self.options:
            command += ['--cfg-options', *self.options]
        return [*python, *command]

    def prove(self) -> str:
        """Bring the weights into the network, as the run would.

        Returns:
            What a training will state that it starts from; empty for a
            probe.

        Raises:
            ValueError: if they do not fit, or the config is wrong.
            OSError: if a file is missing.
            ImportError: if a library is missing.
        """
        from mmengine.config import DictAction

        from mmssd.evaluation.from_config import build_network

        from .config import load_config

        parser = ArgumentParser()
        parser.add_argument('--options', nargs='*', action=DictAction)
        options = parser.parse_args(['--options', *self.options]).options
        config = load_config(self.config, options)
        scope = config.get('default_scope') or 'mmpretrain'
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('WARNING')  # not each parameter that is initialised
        try:
            if self.task.tool == 'train':
                return prove_initialisation(config)
            if self.checkpoint is not None:
                with DefaultScope.overwrite_default_scope(scope):
                    build_network(config, self.checkpoint, self.part)
        finally:
            logger.setLevel(level)
        return ''

    def recipe(self) -> str:
        """Return what tells whether a result is still of this cell."""
        parts = [
            _config_text(self.config),
            '\n'.join(self.options),
            ' '.join(self.task.arguments),
            _hash(self.checkpoint) if self.checkpoint else RANDOM,
            f'{self.part} {self.gpus}',
        ]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def projected(self) -> float | None:
        """Return the minutes of a begun run in all, as its log foresees."""
        output, clock = self.folder / 'output.txt', self.folder / SECONDS
        if not output.is_file() or not clock.is_file():
            return None
        found = ETA.findall(output.read_text(errors='replace'))
        if not found:
            return None
        days, hours, minutes, seconds = (int(x or 0) for x in found[-1])
        left = ((24 * days + hours) * 60 + minutes) * 60 + seconds
        return (json.loads(clock.read_text()) + left) / 60


def _readers() -> int:
    """Return how many processes may read images: one for each core."""
    cores = (
        len(os.sched_getaffinity(0))  # of those that we may use
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count() or 1
    )
    return min(cores, READERS)


@cache
def _config_text(path: Path) -> str:
    from .config import load_config

    return load_config(path).pretty_text


@cache
def _hash(path: Path | str) -> str:
    # the name of a published file has its hash
    return path if isinstance(path, str) else file_sha256(path)


def _source(checkpoint: Path | str | None, part: str) -> str:
    """Return what tells whether two rows are of the same network."""
    return f'{_hash(checkpoint)} {part}' if checkpoint else RANDOM


def supervised_weights(student: str) -> str:
    """Return the URL of a student trained with the labels of ImageNet.

    Args:
        student: in the names of our configs.

    Raises:
        ValueError: if mmpretrain has no such network.
    """
    if student not in MODELS:
        raise ValueError(
            f'mmpretrain has no supervised {student}: give a file, '
            f'{SUPERVISED}=FILE, or no such row'
        )
    from mmpretrain.apis import ModelHub

    return ModelHub.get(MODELS[student]).weights


def epoch_rows(name: str, run: str | Path, epochs: Sequence[int]) -> dict:
    """Return a row for each of some epochs of a run, named ``NAME@EPOCH``.

    Args:
        name: of the run.
        run: its work folder.
        epochs: whose checkpoints were kept.

    Raises:
        FileNotFoundError: if one was not, naming those that were.
    """
    run = Path(run)
    rows = {}
    for epoch in epochs:
        path = run / f'epoch_{epoch}.pth'
        if not path.is_file():
            there = sorted(
                int(found.stem.rpartition('_')[2])
                for found in run.glob('epoch_*.pth')
            )
            raise FileNotFoundError(
                f'{name}: {path} does not exist; {run} has the epochs '
                f'{", ".join(map(str, there)) or "none"} (keep more by '
                f'default_hooks.checkpoint.keep="[{epoch}]")'
            )
        rows[f'{name}{AT}{epoch}'] = path
    return rows


@dataclass
class Suite:
    """A table and how far it is.

    Args:
        tasks: the columns.
        rows: checkpoint by name, or its URL; ``None`` starts from random
            weights.
        work_dir: where everything goes.
        student: fills ``{student}`` in the configs.
        seeds: how many seeds of each run, 0, 1, ...
        options: further options of every training.
        data: folder of the data, instead of those in the configs.
        part: network of the checkpoints: ``'student'``, ``'teacher'`` or
            ``'momentum'``.
        gpus: most processes of a training, which has as many as the name of
            its config says (``8xb2``) if there are as many.
        others: further tasks of the table. What is finished of them, or of
            other rows, in ``work_dir`` stays in the table.
        say: prints progress.

    Raises:
        FileNotFoundError: if a checkpoint or a config does not exist.
        ValueError: if there are no rows or no seeds, or a part or a number
            is out of range.
    """

    tasks: Sequence[Task]
    rows: dict[str, Path | str | None]
    work_dir: Path
    student: str = 'resnet18'
    seeds: int = 1
    options: tuple[str, ...] = ()
    data: Path | None = None
    part: str = 'student'
    gpus: int = 1
    others: Sequence[Task] = ()
    say: Callable[[str], None] = print
    failed: dict[str, str] = field(default_factory=dict)
    # what is not proven although it fits, of the last look at the problems
    unproven: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.rows or not self.tasks:
            raise ValueError('no checkpoints or no tasks: nothing to do')
        if self.seeds < 1:
            raise ValueError(f'seeds={self.seeds}: must be at least 1')
        if self.gpus < 1:
            raise ValueError(f'gpus={self.gpus}: must be at least 1')
        if self.part not in PARTS:
            raise ValueError(
                f'part={self.part!r}: must be one of {", ".join(PARTS)}'
            )
        for name, path in self.rows.items():
            if not name or '/' in name:
                raise ValueError(f'row {name!r}: not the name of a folder')
            if isinstance(path, str) and path.startswith(URL):
                continue  # fetched when the runs begin
            if path is not None:
                self.rows[name] = find_checkpoint(path)
        missing = [t for t in self.tasks if not self._config(t).is_file()]
        if missing:
            raise FileNotFoundError(self._explain(missing))

    def _config(self, task: Task) -> Path:
        return task.path(self.student)

    def _explain(self, missing: Sequence[Task]) -> str:
        """Say which configs are not there, and what is instead."""
        lines = [f'no config for the student {self.student!r} of']
        for task in missing:
            line = f'    {task.name}: {self._config(task)} does not exist'
            if there := task.students():
                line += f'; there are those of {", ".join(there)}'
            lines.append(line)
        rest = [task.name for task in self.tasks if task not in missing]
        if rest:
            lines.append(f'--tasks {" ".join(rest)} leaves them out')
        suites = [
            name
            for name, tasks in SUITES.items()
            if all(self.student in task.students() for task in tasks)
        ]
        if suites:
            lines.append(f'suites with {self.student}: {", ".join(suites)}')
        return '\n'.join(lines)

    def cells(self) -> list[Cell]:
        """List all cells, row by row."""
        return [
            Cell(
                row,
                checkpoint,
                task,
                self._config(task),
                split,
                seed,
                self.work_dir / row / task.name / f'split{split}_seed{seed}',
                self._options(task, row, chosen, seed),
                self._part(row),
                min(self.gpus, _processes(self._config(task))),
            )
            for row, checkpoint in self.rows.items()
            for task in self.tasks
            for split, chosen in enumerate(task.splits, 1)
            for seed in range(self.seeds)
            # in a tool, only random weights are random
            if task.tool == 'train' or seed == 0 or checkpoint is None
        ]

    def _part(self, row: str) -> str:
        # a file of another library has one network
        return 'student' if row == SUPERVISED else self.part

    def _options(
        self, task: Task, row: str, chosen: tuple[str, ...], seed: int
    ) -> tuple[str, ...]:
        options, checkpoint = list(chosen), self.rows[row]
        if task.tool == 'train':
            for place in task.inits:
                if checkpoint is None:
                    options.append(f'{place}=None')
                    continue
                options.append(f'{place}.checkpoint={checkpoint}')
                if self._part(row) != 'student':
                    options.append(f'{place}.prefix={PARTS[self.part]}')
        if self.data is not None:
            options += [text.format(data=self.data) for text in task.data]
        if task.tool == 'train':
            options += [f'randomness.seed={seed}', *self.options]
        return tuple(options)

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return the result of a finished cell.

        Raises:
            SetupError: if the folder holds one of another recipe.
        """
        path = cell.folder / 'result.json'
        if not path.is_file():
            return None
        result = json.loads(path.read_text())
        if result['recipe'] != cell.recipe():
            raise SetupError(
                f'{cell.folder} holds the result of another checkpoint, '
                'config or options: remove it, or give another --work-dir'
            )
        return result

    def estimate(self, task: Task) -> tuple[float, str] | None:
        """Return the minutes of a run of a task, and how they are known.

        The mean of those that are finished, else what the log of a begun
        one foresees, else what is assumed.
        """
        cells = [c for c in self.cells() if c.task is task]
        finished = [r['minutes'] for c in cells if (r := self.result(c))]
        if finished:
            return sum(finished) / len(finished), 'measured'
        begun = [m for c in cells if (m := c.projected()) is not None]
        if begun:
            return sum(begun) / len(begun), 'by the one that was begun'
        return None if task.minutes is None else (task.minutes, 'assumed')

    def plan(self) -> str:
        """Say what is done, what is left, and how long that may take."""
        lines, total, unknown = [], 0.0, 0
        for task in self.tasks:
            cells = [c for c in self.cells() if c.task is task]
            left = sum(self.result(c) is None for c in cells)
            text = f'{task.name}: {len(cells)} runs, {left} left'
            known = self.estimate(task)
            if known:
                text += f' of {_duration(known[0])} each, {known[1]}'
                total += left * known[0]
            elif left:
                text += ', time not known before the first one'
                unknown += left
            lines.append(text)
            written_for = _processes(self._config(task))
            if task.tool == 'train' and written_for > self.gpus:
                lines.append(
                    f'    its config is for {written_for} processes, and '
                    f'this is {self.gpus}: --gpus {written_for}, or another '
                    'batch size or learning rate by --cfg-options'
                )
        reasons: dict[str, list[str]] = {}
        for task in self.tasks:
            if task.unfair:
                reasons.setdefault(task.unfair, []).append(task.name)
        for reason, names in reasons.items():
            word = 'not fair: ' if SUPERVISED in self.rows else 'none, '
            lines.append(
                f'row {SUPERVISED} of {", ".join(names)}: {word}{reason}'
            )
        if (
            SUPERVISED not in self.rows
            and not reasons
            and self.student not in MODELS
            and any('{student}' in task.config for task in self.tasks)
        ):
            lines.append(
                f'row {SUPERVISED}: mmpretrain has no network of '
                f'{self.student} trained with labels; give {SUPERVISED}=FILE'
            )
        text = f'in all about {_duration(total)}'
        if unknown:
            text += f' and {unknown} runs of unknown length'
        return '\n'.join([*lines, text])

    def problems(self) -> list[str]:
        """Say which checkpoints do not fit the tasks that are left.

        Without training anything, the weights of each row are brought into
        the network of each task, as a run would at its start, see
        :func:`~mmssd.apis.transfer.prove_initialisation` and
        :func:`~mmssd.evaluation.from_config.build_network`. URLs that have
        not been downloaded yet are left out.

        Where the weights fit, but not all can be proven of them,
        ``unproven`` gets a line with row, task and statement.

        Returns:
            Each problem once, with the rows and tasks that have it.
        """
        places: dict[str, list[str]] = {}
        self.unproven = []
        proven = set()
        for cell in self.cells():
            pair = cell.row, cell.task.name
            if pair in proven or self.result(cell) is not None:
                continue
            proven.add(pair)  # splits and seeds start from the same file
            url = isinstance(cell.checkpoint, str)
            if url and not is_fetched(cell.checkpoint):
                continue
            try:
                statement = cell.prove()
            except USER_ERRORS as error:
                # what to do is another thing here than in a single run
                text = explain(error).replace(REMEDY, '').rstrip(' .\n')
                places.setdefault(text, []).append('/'.join(pair))
                continue
            if NOT_COMPARED in statement:
                self.unproven.append(f'{"/".join(pair)}: {statement}')
        return [f'{", ".join(of)}: {text}' for text, of in places.items()]

    def check(self) -> None:
        """Refuse to begin while there are :meth:`problems`.

        What fits, but has features that cannot be compared, is said.

        Raises:
            SetupError: naming them all.
        """
        problems = self.problems()
        for line in self.unproven:
            self.say(line)
        if problems:
            raise SetupError(
                'nothing was run, because not every checkpoint fits:\n'
                + '\n'.join(problems)
                + '\nGive another file, NAME=FILE, another --student or '
                '--part, or leave the row or the task out'
            )

    def _left(self, cells: Sequence[Cell]) -> str:
        """Say how long these will take, as far as that is known."""
        known = [self.estimate(cell.task) for cell in cells]
        if not cells or None in known:
            return ''
        return f', about {_duration(sum(m for m, _ in known))} left'

    def run(self) -> bool:
        """Run what is left; return whether every cell has a result.

        What was given runs before ``random`` and ``supervised``, which are
        seldom what fails.

        Raises:
            KeyboardInterrupt: after the running cell has stopped.
            OSError: if a checkpoint cannot be fetched.
            SetupError: if one does not fit a task; nothing was run then.
        """
        for name, path in self.rows.items():
            try:
                if path is not None:
                    find_checkpoint(path)
            except OSError as error:
                raise type(error)(
                    f'row {name}: {path} cannot be had ({error}): give a '
                    f'file, {name}=FILE, or leave the row out'
                ) from error
        cells = self.cells()
        left = [cell for cell in cells if self.result(cell) is None]
        left.sort(key=lambda cell: cell.row in (RANDOM, SUPERVISED))
        self.check()
        self.write()
        for number, cell in enumerate(left):
            self.say(
                f'[{number + 1}/{len(left)}] {cell.name}'
                + self._left(left[number:])
            )
            error = self._run_cell(cell)
            if error:
                self.failed[cell.name] = error
                self.say(f'    failed: {error}')
            self.write()
        for name, error in self.failed.items():
            self.say(f'no result: {name}: {error}')
        return not self.failed

    def _run_cell(self, cell: Cell) -> str | None:
        """Run a cell; return why it failed."""
        recipe, started = cell.recipe(), cell.folder / 'recipe.json'
        if started.is_file() and json.loads(started.read_text()) != recipe:
            if any(cell.folder.glob('*.pth')):
                return (
                    f'{cell.folder} was begun with another checkpoint, config '
                    'or options, and holds a checkpoint of that: remove it, '
                    'or give another --work-dir'
                )
            # Nothing to go on from. Its logs must not pass for new ones.
            shutil.rmtree(cell.folder)
        cell.folder.mkdir(parents=True, exist_ok=True)
        started.write_text(json.dumps(recipe))
        output, clock = cell.folder / 'output.txt', cell.folder / SECONDS
        before = json.loads(clock.read_text()) if clock.is_file() else 0.0
        begin = time.monotonic()
        try:
            status = self._follow(cell.command(), output)
        finally:
            seconds = before + time.monotonic() - begin
            clock.write_text(json.dumps(seconds))
        if status:
            lines = output.read_text(errors='replace').strip().splitlines()
            said = [line for line in lines if line.startswith('error: ')]
            last = (said or lines or ['nothing was printed'])[-1]
            return f'{last} (all of it: {output})'
        try:
            metrics = self._metrics(cell)
        except (ValueError, KeyError, IndexError, OSError) as error:
            return f'{error} (all of it: {output})'
        result = dict(
            recipe=recipe,
            config=cell.config.name,
            source=_source(cell.checkpoint, cell.part),
            metrics=metrics,
            initialisation=self._initialisation(cell),
            minutes=seconds / 60,
        )
        path = cell.folder / 'result.json'
        partial = path.with_suffix('.partial')
        partial.write_text(json.dumps(result, indent=1))
        partial.replace(path)
        return None

    def _follow(self, command: list[str], output: Path) -> int:
        """Run a command, keep what it prints, and show its progress."""
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
        )
        shown = -math.inf
        with open(output, 'a') as file:
            try:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    now = time.monotonic()
                    if PROGRESS.search(line) and now - shown >= PAUSE:
                        shown = now
                        line = re.sub(r'^.*? - INFO - ', '', line.rstrip())
                        self.say(f'    {line[:LINE]}')
                return process.wait()
            except BaseException:
                # on Ctrl-C the terminal has told it, too
                try:
                    process.wait(timeout=STOPPING)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                raise

    @staticmethod
    def _metrics(cell: Cell) -> dict[str, float | list[float]]:
        """Read what a finished cell has measured.

        Raises:
            ValueError: if a metric is missing, no number, or negative. All
                of a detector's may be missing: it has found nothing.
        """
        keys = sorted({key for key, _ in cell.task.columns.values()})
        if cell.task.tool == 'train':
            found = last_metrics(cell.folder)
            if not found and all(key.startswith(DETECTION) for key in keys):
                return {}
            missing = [key for key in keys if key not in found]
            if missing:
                raise ValueError(
                    f'no metric {", ".join(missing)} among '
                    f'{", ".join(found) or "none at all"}'
                )
            metrics = {key: found[key] for key in keys}
        else:
            path = cell.folder / 'metrics.json'
            content = json.loads(path.read_text())
            metrics = {key: _pick(content, key.split('.')) for key in keys}
        for key, value in metrics.items():
            if not all(map(math.isfinite, _as_list(value))):
                raise ValueError(f'the metric {key} is {value}')
            if min(_as_list(value)) < 0:
                # COCO's AP is -1 where nothing is to be found
                raise ValueError(
                    f'the metric {key} is {value}: the images tested have '
                    'no object that it counts; look at the annotations'
                )
        return metrics

    @staticmethod
    def _initialisation(cell: Cell) -> str:
        if cell.task.tool == 'train':
            return initialisation(cell.folder) or 'not stated'
        if cell.checkpoint is None:
            return f'backbone from random weights, seed {cell.seed}'
        which = '' if cell.part == 'student' else f' ({cell.part})'
        return f'backbone from {cell.checkpoint}{which}'

    # --- the table ----------------------------------------------------------

    def table(self) -> list[dict[str, Any]]:
        """Return a dict for each row: its name, start, and columns.

        Rows and tasks that are not asked for now, but were finished earlier
        in the same folder for the same student, are there too.

        A column is ``None`` without a finished run, else what
        :func:`average_metrics` says, in percent, but that ``std`` of a
        single value is ``None``. Where not all runs of a cell are finished,
        ``n`` is smaller than ``of``.

        ``initialisation`` is what the first finished run has stated;
        ``initialisations`` has that of every task.
        """
        rows = []
        for row in [*self.rows, *self._earlier_rows()]:
            record: dict[str, Any] = dict(
                row=row, initialisation=None, initialisations={}
            )
            for task in self._shown():
                if row in self.rows and task in self.tasks:
                    cells = [
                        c
                        for c in self.cells()
                        if c.row == row and c.task is task
                    ]
                    results = [r for c in cells if (r := self.result(c))]
                    runs = len(cells)
                else:
                    results = self._earlier(task).get(row, [])
                    runs = len(results)
                for result in results:
                    start = result['initialisation']
                    record['initialisation'] = (
                        record['initialisation'] or start
                    )
                    record['initialisations'].setdefault(task.name, start)
                for column, (key, factor) in task.columns.items():
                    values = [
                        {key: factor * value}
                        for r in results
                        # a detector that found nothing has none
                        for value in _as_list(r['metrics'].get(key, 0.0))
                    ]
                    if not values:
                        record[column] = None
                        continue
                    each = len(values) // len(results)
                    average = average_metrics(values)[key]
                    if average['n'] == 1:
                        average['std'] = None  # unknown, rather than none
                    record[column] = dict(average, of=each * runs)
            rows.append(record)
        return rows

    def columns(self) -> list[str]:
        """Return the titles of the columns."""
        return [column for task in self._shown() for column in task.columns]

    def _earlier(self, task: Task) -> dict[str, list[dict]]:
        """Return by row what is finished of a task in the work folder.

        Of the same student; of a row of now, also of its checkpoint.
        """
        pattern = f'*/{task.name}/split*_seed*/result.json'
        found: dict[str, list[dict]] = {}
        for path in sorted(self.work_dir.glob(pattern)):
            row = path.relative_to(self.work_dir).parts[0]
            result = json.loads(path.read_text())
            if result.get('config') != self._config(task).name:
                continue
            if row not in self.rows or result['source'] == _source(
                self.rows[row], self._part(row)
            ):
                found.setdefault(row, []).append(result)
        return found

    def _shown(self) -> list[Task]:
        """Return the tasks of the table, in the order of the suite."""
        own = {task.name: task for task in self.tasks}
        known = {task.name: task for task in self.others} | own
        return [
            task
            for name, task in known.items()
            if name in own or self._earlier(task)
        ]

    def _earlier_rows(self) -> list[str]:
        """Return further rows with results in the work folder."""
        found = {row for task in self._shown() for row in self._earlier(task)}
        return sorted(found - set(self.rows))

    def write(self) -> None:
        """Write the table as JSON, CSV and Markdown, and a picture."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        rows, columns = self.table(), self.columns()
        (self.work_dir / 'table.json').write_text(
            json.dumps(dict(rows=rows, failed=self.failed), indent=1) + '\n'
        )
        with open(self.work_dir / 'table.csv', 'w', newline='') as file:
            writer = csv.writer(file)
            head = [c for name in columns for c in (name, f'{name} std')]
            writer.writerow(['row', *head, 'initialisation'])
            for row in rows:
                numbers = [
                    row[name][part] if row[name] else ''
                    for name in columns
                    for part in ('mean', 'std')
                ]
                # None, the spread of a single run, is an empty field
                writer.writerow(
                    [row['row'], *numbers, row['initialisation'] or '']
                )
        lines = [
            '| | ' + ' | '.join(columns) + ' | start |',
            '| --- |' + ' ---: |' * len(columns) + ' --- |',
        ]
        for row in rows:
            texts = [_text(row[name]) for name in columns]
            start = (row['initialisation'] or '-').partition(',')[0]
            unproven = [
                task
                for task, statement in row['initialisations'].items()
                if NOT_COMPARED in statement
            ]
            if unproven:
                start += f', {NOT_COMPARED} ({", ".join(unproven)})'
            lines.append(
                f'| {row["row"]} | ' + ' | '.join(texts) + f' | {start} |'
            )
        (self.work_dir / 'table.md').write_text('\n'.join(lines) + '\n')
        if any(row[name] for row in rows for name in columns):
            plot_table(rows, columns, self.work_dir / 'table.png')
            stages = [row for row in rows if AT in row['row']]
            if stages:
                plot_epochs(stages, columns, self.work_dir / 'epochs.png')


def _pick(content: Any, parts: Sequence[str]) -> float | list[float]:
    """Follow a dotted path; ``start:stop`` takes several of a list."""
    for number, part in enumerate(parts):
        if ':' in part:
            start, stop = map(int, part.split(':'))
            if len(content) < stop:
                raise ValueError(f'only {len(content)} results, not {stop}')
            rest = parts[number + 1 :]
            return [_pick(item, rest) for item in content[start:stop]]
        content = content[int(part) if isinstance(content, list) else part]
    return float(content)


def _as_list(value: float | list[float]) -> list[float]:
    return value if isinstance(value, list) else [value]


def _processes(config: Path) -> int:
    """Return the number of processes that the name of a config says."""
    found = re.search(r'_(\d+)xb\d+', config.stem)
    return int(found.group(1)) if found else 1


def _duration(minutes: float) -> str:
    if minutes < 10:
        return f'{minutes:.1f} min'
    return f'{minutes:.0f} min' if minutes < 120 else f'{minutes / 60:.1f} h'


def _text(cell: dict | None) -> str:
    if cell is None:
        return '-'
    text = f'{cell["mean"]:.1f}'
    if cell['n'] > 1:
        text += f' ± {cell["std"]:.1f}'
    if cell['n'] < cell['of']:
        text += f' ({cell["n"]} of {cell["of"]} runs)'
    return text
