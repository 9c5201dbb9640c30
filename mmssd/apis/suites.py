"""Tables of transfer results: rows are checkpoints, columns are tasks.

A cell is one run of an ordinary tool in a folder of its own. What is finished
is kept, a cell that fails does not stop the others, and the table is written
anew after each.
"""

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmssd.evaluation.averages import (
    average_metrics,
    initialisation,
    last_metrics,
)
from mmssd.models.utils.checkpoint import file_sha256, find_checkpoint
from mmssd.models.utils.plan import SetupError

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = 'model.backbone.init_cfg'
C4 = (BACKBONE, 'model.roi_head.shared_head.init_cfg')
RANDOM = 'random'  # the row without a checkpoint
SUBSETS = range(1, 6)


@dataclass(frozen=True)
class Task:
    """One experiment, and the columns that it fills.

    Attributes:
        name: of its folder.
        config: below ``configs``; ``{student}`` is filled in.
        columns: by title: key of the metric, factor that makes it percent.
        splits: for each run of the task the options of the config.
        inits: options that name the pretrained file.
        tool: ``'train'``, or ``'knn'`` or ``'linear_probe'`` of
            ``tools/analysis``, whose metrics are named by a dotted path.
        arguments: further ones of the tool.
    """

    name: str
    config: str
    columns: dict[str, tuple[str, float]]
    splits: tuple[tuple[str, ...], ...] = ((),)
    inits: tuple[str, ...] = (BACKBONE,)
    tool: str = 'train'
    arguments: tuple[str, ...] = ()


def _subsets(size: str) -> tuple[tuple[str, ...], ...]:
    place = 'train_dataloader.dataset.dataset.ann_file'
    file = 'annotations/instances_train2017_{}_{}.json'
    return tuple((f'{place}={file.format(size, n)}',) for n in SUBSETS)


def _coco(title: str) -> dict[str, tuple[str, float]]:
    return {
        f'{title} box AP50': ('coco/bbox_mAP_50', 100),
        f'{title} mask AP50': ('coco/segm_mAP_50', 100),
    }


def _all_aps(title: str, prefix: str, names: dict[str, str]) -> dict:
    return {
        f'{title} {column}': (f'{prefix}{key}', 100)
        for column, key in names.items()
    }


_DISCO = (
    Task(
        'voc0712',
        'transfer/detection/faster-rcnn_{student}-c4_disco-code_8xb4-48ki_'
        'voc0712.py',
        _all_aps(
            'VOC',
            'pascal_voc/',
            {'AP': 'mAP', 'AP50': 'AP50', 'AP75': 'AP75'},
        ),
        inits=C4,
    ),
    Task(
        'coco',
        'transfer/instance/mask-rcnn_{student}-c4_disco_8xb2-180ki_coco.py',
        {
            **_all_aps(
                'box',
                'coco/bbox_',
                {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'},
            ),
            **_all_aps(
                'mask',
                'coco/segm_',
                {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'},
            ),
        },
        inits=C4,
    ),
)
_DEMO = 'demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

SUITES: dict[str, tuple[Task, ...]] = {
    # k-NN, linear probes and a detector on garment scenes, on the CPU
    'demo': (
        Task('knn', _DEMO, {'k-NN': ('top1_by_k.20', 1)}, tool='knn'),
        Task(
            'linear',
            _DEMO,
            {
                'linear 1 %': ('results.0.top1', 1),
                'linear 10 %': ('results.1.top1', 1),
                'linear': ('results.2.top1', 1),
            },
            tool='linear_probe',
            arguments=('--fraction', '0.01', '0.1', '1'),
        ),
        Task(
            'detection',
            'demo/faster-rcnn_resnet18w4-fpn_1xb8-300i_garments.py',
            {'detection AP50': ('coco/bbox_mAP_50', 100)},
        ),
    ),
    'oss-table2': tuple(
        Task(
            f'{share}percent',
            'transfer/semi-supervised/oss_{student}_8xb32-steplr-20e_in1k-'
            f'{share}percent.py',
            {
                f'{share} % top-1': ('accuracy/top1', 1),
                f'{share} % top-5': ('accuracy/top5', 1),
            },
        )
        for share in (1, 10)
    ),
    'oss-table3': (
        Task(
            'voc07',
            'transfer/detection/faster-rcnn_{student}-fpn_8xb2-12e_voc07.py',
            {'VOC07 AP50': ('pascal_voc/AP50', 100)},
        ),
        Task(
            'coco-1k',
            'transfer/instance/mask-rcnn_{student}-fpn_8xb2-120e_coco-1k.py',
            _coco('COCO-1K'),
            _subsets('1k'),
        ),
        Task(
            'coco-10k',
            'transfer/instance/mask-rcnn_{student}-fpn_8xb2-36e_coco-10k.py',
            _coco('COCO-10K'),
            _subsets('10k'),
        ),
        Task(
            'voc12',
            'transfer/segmentation/fcn_{student}_4xb4-20ki_voc12aug.py',
            {'VOC12 mIoU': ('mIoU', 1)},
        ),
    ),
    # SEED and DisCo report the same tasks
    'seed-detection': _DISCO,
    'disco-table2': _DISCO,
    'linear': (
        Task(
            'in1k',
            'transfer/linear/seed_{student}_8xb32-steplr-100e_in1k.py',
            {
                'ImageNet top-1': ('accuracy/top1', 1),
                'ImageNet top-5': ('accuracy/top5', 1),
            },
        ),
        *(
            Task(
                f'cifar{n}',
                'transfer/linear/disco_{student}_8xb32-steplr-100e_cifar'
                f'{n}.py',
                {f'CIFAR-{n} top-1': ('accuracy/top1', 1)},
            )
            for n in (10, 100)
        ),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One run: a row, a task, a split and a seed."""

    row: str
    checkpoint: Path | None
    task: Task
    config: Path
    split: int
    seed: int
    folder: Path
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Row, task, split and seed, for messages."""
        return str(Path(*self.folder.parts[-3:]))

    def command(self) -> list[str]:
        """Return the command line of the run."""
        if self.task.tool != 'train':
            tool = ROOT / 'tools/analysis' / f'{self.task.tool}.py'
            found = [str(self.checkpoint)] if self.checkpoint else []
            command = [str(tool), str(self.config), *found]
            command += ['--out', str(self.folder / 'metrics.json')]
            command += self.task.arguments
        else:
            command = [str(ROOT / 'tools/train.py'), str(self.config)]
            command += ['--work-dir', str(self.folder), '--resume']
        if self.options:
            command += ['--cfg-options', *self.options]
        return [sys.executable, '-W', 'ignore', *command]

    def recipe(self) -> str:
        """Return what tells whether a result is still of this cell."""
        parts = [
            _config_text(self.config),
            '\n'.join(self.options),
            ' '.join(self.task.arguments),
            _hash(self.checkpoint) if self.checkpoint else RANDOM,
        ]
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


@cache
def _config_text(path: Path) -> str:
    from .config import load_config

    return load_config(path).pretty_text


@cache
def _hash(path: Path) -> str:
    return file_sha256(path)


@dataclass
class Suite:
    """A table and how far it is.

    Args:
        tasks: the columns.
        rows: checkpoint by name; ``None`` starts from random weights.
        work_dir: where everything goes.
        student: fills ``{student}`` in the configs.
        seeds: how many seeds of each run, 0, 1, ...
        options: further options of every training.
        say: prints progress.

    Raises:
        FileNotFoundError: if a checkpoint or a config does not exist.
        ValueError: if there are no rows, or no seeds.
    """

    tasks: Sequence[Task]
    rows: dict[str, Path | None]
    work_dir: Path
    student: str = 'resnet18'
    seeds: int = 1
    options: tuple[str, ...] = ()
    say: Callable[[str], None] = print
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows or not self.tasks:
            raise ValueError('no checkpoints or no tasks: nothing to do')
        if self.seeds < 1:
            raise ValueError(f'seeds={self.seeds}: must be at least 1')
        for name, path in self.rows.items():
            if not name or '/' in name:
                raise ValueError(f'row {name!r}: not the name of a folder')
            if path is not None:
                self.rows[name] = find_checkpoint(path)
        for task in self.tasks:
            if not self._config(task).is_file():
                raise FileNotFoundError(
                    f'task {task.name} has no config for the student '
                    f'{self.student!r}: {self._config(task)} does not exist'
                )

    def _config(self, task: Task) -> Path:
        path = Path(task.config.format(student=self.student))
        return path if path.is_absolute() else ROOT / 'configs' / path

    def cells(self) -> list[Cell]:
        """List all cells, row by row."""
        cells = []
        for row, checkpoint in self.rows.items():
            for task in self.tasks:
                for split, chosen in enumerate(task.splits, 1):
                    for seed in range(self.seeds):
                        options = list(chosen)
                        if task.tool == 'train':
                            options += [
                                f'{place}={None}'
                                if checkpoint is None
                                else f'{place}.checkpoint={checkpoint}'
                                for place in task.inits
                            ]
                            options += [f'randomness.seed={seed}']
                            options += self.options
                        elif seed:
                            continue  # nothing in it is random
                        folder = self.work_dir / row / task.name
                        cells.append(
                            Cell(
                                row,
                                checkpoint,
                                task,
                                self._config(task),
                                split,
                                seed,
                                folder / f'split{split}_seed{seed}',
                                tuple(options),
                            )
                        )
        return cells

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

    def plan(self) -> str:
        """Say what is done, what is left, and how long that may take.

        The time of a cell is the mean of those of its task that are
        finished.
        """
        lines, total, unknown = [], 0.0, 0
        for task in self.tasks:
            cells = [c for c in self.cells() if c.task is task]
            results = [r for c in cells if (r := self.result(c))]
            left = len(cells) - len(results)
            text = f'{task.name}: {len(cells)} runs, {left} left'
            if results:
                mean = sum(r['minutes'] for r in results) / len(results)
                text += f', about {left * mean:.0f} min'
                total += left * mean
            elif left:
                text += ', time not known before the first one'
                unknown += left
            lines.append(text)
        text = f'in all about {total:.0f} min'
        if unknown:
            text += f' and {unknown} runs of unknown length'
        return '\n'.join([*lines, text])

    def run(self) -> bool:
        """Run what is left; return whether every cell has a result.

        Raises:
            KeyboardInterrupt: after the running cell has stopped.
        """
        cells = self.cells()
        left = [cell for cell in cells if self.result(cell) is None]
        self.write()
        for number, cell in enumerate(left, 1):
            self.say(f'[{number}/{len(left)}] {cell.name}')
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
        cell.folder.mkdir(parents=True, exist_ok=True)
        recipe, started = cell.recipe(), cell.folder / 'recipe.json'
        if started.is_file() and json.loads(started.read_text()) != recipe:
            return (
                f'{cell.folder} was begun with another checkpoint, config or '
                'options: remove it'
            )
        started.write_text(json.dumps(recipe))
        output = cell.folder / 'output.txt'
        clock = cell.folder / 'seconds.json'
        before = json.loads(clock.read_text()) if clock.is_file() else 0.0
        begin = time.monotonic()
        with open(output, 'a') as file:
            process = subprocess.Popen(
                cell.command(), stdout=file, stderr=subprocess.STDOUT
            )
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.wait()  # the terminal has interrupted it, too
                raise
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
            metrics=metrics,
            initialisation=self._initialisation(cell),
            minutes=seconds / 60,
        )
        path = cell.folder / 'result.json'
        partial = path.with_suffix('.partial')
        partial.write_text(json.dumps(result, indent=1))
        partial.replace(path)
        return None

    @staticmethod
    def _metrics(cell: Cell) -> dict[str, float]:
        if cell.task.tool == 'train':
            found = last_metrics(cell.folder)
            keys = {key for key, _ in cell.task.columns.values()}
            if found and not keys <= found.keys():
                raise ValueError(
                    f'no metric {", ".join(sorted(keys - found.keys()))} '
                    f'among {", ".join(found)}'
                )
            return {key: found[key] for key in sorted(keys)} if found else {}
        content = json.loads((cell.folder / 'metrics.json').read_text())
        found = {}
        for key, _ in cell.task.columns.values():
            value = content
            for part in key.split('.'):
                value = value[int(part) if isinstance(value, list) else part]
            found[key] = float(value)
        return found

    @staticmethod
    def _initialisation(cell: Cell) -> str:
        if cell.task.tool == 'train':
            return initialisation(cell.folder) or 'not stated'
        return (
            f'backbone from {cell.checkpoint}'
            if cell.checkpoint
            else 'backbone from random weights'
        )

    # --- the table ----------------------------------------------------------

    def table(self) -> list[dict[str, Any]]:
        """Return a dict for each row: its name, start, and columns.

        A column is ``None`` without a finished run, else what
        :func:`average_metrics` says, in percent. Where not all runs of a
        cell are finished, ``n`` is smaller than ``of``.
        """
        rows = []
        for row in self.rows:
            record: dict[str, Any] = dict(row=row, initialisation=None)
            for task in self.tasks:
                cells = [
                    c for c in self.cells() if c.row == row and c.task is task
                ]
                results = [r for c in cells if (r := self.result(c))]
                for result in results:
                    record['initialisation'] = result['initialisation']
                for column, (key, factor) in task.columns.items():
                    values = [
                        {key: factor * r['metrics'][key]}
                        if key in r['metrics']
                        # a detector that found nothing has none
                        else {key: 0.0}
                        for r in results
                    ]
                    record[column] = (
                        dict(average_metrics(values)[key], of=len(cells))
                        if values
                        else None
                    )
            rows.append(record)
        return rows

    def columns(self) -> list[str]:
        """Return the titles of the columns."""
        return [column for task in self.tasks for column in task.columns]

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
            lines.append(
                f'| {row["row"]} | ' + ' | '.join(texts) + f' | {start} |'
            )
        (self.work_dir / 'table.md').write_text('\n'.join(lines) + '\n')
        if any(row[name] for row in rows for name in columns):
            plot_table(rows, columns, self.work_dir / 'table.png')


def _text(cell: dict | None) -> str:
    if cell is None:
        return '-'
    text = f'{cell["mean"]:.1f}'
    if cell['n'] > 1:
        text += f' ± {cell["std"]:.1f}'
    if cell['n'] < cell['of']:
        text += f' ({cell["n"]} of {cell["of"]} runs)'
    return text


def plot_table(rows: list[dict], columns: list[str], path: Path) -> None:
    """Draw a group of bars for each column, with the spread over its runs.

    Args:
        rows: of :meth:`Suite.table`.
        columns: titles to draw.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    width = 0.8 / len(rows)
    figure, axis = plt.subplots(figsize=(2 + 1.6 * len(columns), 4.5))
    for index, row in enumerate(rows):
        places = [
            (i + (index - (len(rows) - 1) / 2) * width, row[name])
            for i, name in enumerate(columns)
            if row[name]
        ]
        bars = axis.bar(
            [place for place, _ in places],
            [cell['mean'] for _, cell in places],
            width,
            yerr=[cell['std'] for _, cell in places],
            capsize=3,
            label=row['row'],
        )
        axis.bar_label(
            bars, [f'{cell["mean"]:.1f}' for _, cell in places], fontsize=8
        )
    axis.set_xticks(range(len(columns)), columns, rotation=15, ha='right')
    axis.set_ylabel('percent')
    axis.legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120, bbox_inches='tight')
    plt.close(figure)
