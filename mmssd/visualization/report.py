"""The report of a demo: one table and three pictures."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .information_plane import plot_information_plane, read_plane

COLUMNS = {
    'method': 'method',
    'knn': 'k-NN',
    'linear_1': 'linear 1 %',
    'linear_100': 'linear 100 %',
    'ap50': 'detection AP50',
    'minutes': 'minutes',
}
WIDEST = 3  # panels in a row


def mean_and_spread(values: Sequence[float | None]) -> str:
    """Format a cell: the value, or mean ± standard deviation over seeds."""
    known = [v for v in values if v is not None]
    if not known:
        return '-'
    if len(known) == 1:
        return f'{known[0]:.1f}'
    return f'{np.mean(known):.1f} ± {np.std(known, ddof=1):.1f}'


def read_scalars(folder: Path) -> list[dict]:
    """Return the logged scalars of a run, oldest first.

    A run that was resumed has one log per start; where they overlap the
    later one counts.
    """
    by_step: dict[tuple, dict] = {}
    for path in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            by_step[record.get('step'), 'lr' in record] = record
    return [by_step[key] for key in sorted(by_step, key=lambda k: k[0] or 0)]


def plot_losses(runs: dict[str, Path], path: Path) -> None:
    """Draw every loss term of several runs over the iterations."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    wide = min(len(runs), WIDEST)
    high = -(-len(runs) // wide)
    figure, axes = plt.subplots(
        high, wide, figsize=(5.5 * wide, 4 * high), squeeze=False
    )
    for axis in axes.flat[len(runs) :]:
        axis.axis('off')
    for axis, (name, folder) in zip(axes.flat, runs.items(), strict=False):
        records = [r for r in read_scalars(folder) if 'loss' in r]
        keys = sorted({k for r in records for k in r if 'loss' in k})
        for key in keys:
            points = [(r['step'], r[key]) for r in records if key in r]
            axis.plot(
                *zip(*points, strict=True),
                label='total' if key == 'loss' else key,
                linestyle='--' if key == 'loss' else '-',
            )
        axis.set(title=name, xlabel='iteration', ylabel='loss (nats)')
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_knn(runs: dict[str, Path], path: Path) -> None:
    """Draw the k-NN accuracy of each network while it trained.

    A frozen teacher, the same to all runs that have it, is drawn once.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4))
    frozen = set()
    for name, folder in runs.items():
        file = Path(folder) / 'knn.json'
        if not file.is_file():
            continue
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for part in sorted({r['part'] for r in records}):
            points = [
                (r['iter'], r['top1']) for r in records if r['part'] == part
            ]
            values = {value for _, value in points}
            label = f'{name} {part}'
            style = dict(marker='o')
            if part == 'teacher' and len(points) > 1 and len(values) == 1:
                if values <= frozen:
                    continue
                frozen |= values
                label, style = 'frozen teacher', dict(color='0.4', ls='--')
            axis.plot(*zip(*points, strict=True), label=label, **style)
    axis.set(xlabel='iteration', ylabel='k-NN top-1 (%)')
    axis.grid(alpha=0.3)
    axis.legend(loc='center left', bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_detections(
    detectors: dict[str, Path],
    data_root: Path,
    path: Path,
    count: int = 6,
    threshold: float = 0.3,
) -> None:
    """Draw ground truth and the detections of each detector on val scenes.

    Args:
        detectors: work folder of a detector by name.
        data_root: folder of the garment scenes.
        path: PNG to write.
        count: how many scenes.
        threshold: least score of a drawn box.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from mmdet.apis import inference_detector, init_detector
    from mmdet.utils import register_all_modules

    from mmssd.datasets.garment_scenes import CLASSES, PALETTE

    register_all_modules(init_default_scope=True)
    coco = json.loads(
        (Path(data_root) / 'multi' / 'instances_val.json').read_text()
    )
    images = coco['images'][:count]
    folder = Path(data_root) / 'multi' / 'val' / 'images'
    rows = [('ground truth', None)]
    for name, work_dir in detectors.items():
        config = next(Path(work_dir).glob('*.py'))
        checkpoint = (Path(work_dir) / 'last_checkpoint').read_text().strip()
        model = init_detector(
            str(config),
            checkpoint,
            device='cpu',
            cfg_options={'model.backbone.init_cfg': None},
        )
        rows.append((name, model))
    figure, axes = plt.subplots(
        len(rows),
        len(images),
        figsize=(2.2 * len(images), 2.4 * len(rows)),
        squeeze=False,
    )
    for line, (name, model) in zip(axes, rows, strict=True):
        for axis, image in zip(line, images, strict=True):
            file = folder / image['file_name']
            axis.imshow(plt.imread(file))
            axis.set(xticks=[], yticks=[])
            if model is None:
                boxes = [
                    (*a['bbox'], a['category_id'] - 1, None)
                    for a in coco['annotations']
                    if a['image_id'] == image['id']
                ]
            else:
                found = inference_detector(model, str(file)).pred_instances
                found = found[found.scores >= threshold]
                boxes = [
                    (x1, y1, x2 - x1, y2 - y1, label, score)
                    for (x1, y1, x2, y2), label, score in zip(
                        found.bboxes.tolist(),
                        found.labels.tolist(),
                        found.scores.tolist(),
                        strict=True,
                    )
                ]
            for x, y, w, h, label, score in boxes:
                colour = np.array(PALETTE[label]) / 255
                axis.add_patch(
                    plt.Rectangle(
                        (x, y),
                        w,
                        h,
                        fill=False,
                        edgecolor=colour,
                        linewidth=1.5,
                    )
                )
                text = CLASSES[label]
                text += '' if score is None else f' {score:.2f}'
                axis.text(
                    x,
                    max(y - 1, 4),
                    text,
                    fontsize=6,
                    color='white',
                    backgroundcolor=(*colour * 0.7, 0.8),
                    bbox=dict(
                        pad=0.5,
                        facecolor=(*colour * 0.7, 0.8),
                        edgecolor='none',
                    ),
                )
        line[0].set_ylabel(name)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_table(
    folder: Path,
    columns: dict[str, str],
    tables: Sequence[Sequence[dict]],
    name: str = 'table',
) -> list[str]:
    """Write a table as JSON, by seed, and as CSV.

    Args:
        folder: exists.
        columns: titles by the keys of the rows, first that of the names.
        tables: the rows of each seed, in the same order.
        name: of the files. Defaults to ``'table'``.

    Returns:
        Lines of the table in Markdown.
    """
    (folder / f'{name}.json').write_text(json.dumps(tables, indent=1))
    first, *others = columns
    lines = [list(columns.values())]
    for rows in zip(*tables, strict=True):
        cells = [mean_and_spread([row[key] for row in rows]) for key in others]
        lines.append([rows[0][first], *cells])
    with open(folder / f'{name}.csv', 'w', newline='') as file:
        csv.writer(file).writerows(lines)
    lines.insert(1, ['---'] * len(columns))
    return [f'| {" | ".join(line)} |' for line in lines]


def count_seeds(tables: Sequence) -> str:
    """Say over how many seeds a table is."""
    spread = '; mean ± standard deviation over seeds'
    return f'{len(tables)} seed(s)' + (spread if len(tables) > 1 else '')


def plot_accuracy(runs: dict[str, Path], path: Path, key: str) -> None:
    """Draw a logged accuracy of several runs over the iterations.

    Args:
        runs: work folders by name.
        path: PNG to write.
        key: of the accuracy in the logs, in percent.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4))
    for name, folder in runs.items():
        points = [
            (r['step'], r[key]) for r in read_scalars(folder) if key in r
        ]
        if points:
            axis.plot(*zip(*points, strict=True), marker='o', label=name)
    axis.set(xlabel='iteration', ylabel='top-1 (%)')
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_report(
    folder: Path,
    title: str,
    tables: Sequence[Sequence[dict]],
    pretrainings: dict[str, Path],
    detectors: dict[str, Path],
    data_root: Path,
    planes: dict[str, Path] | None = None,
) -> Path:
    """Write ``report.md`` with the table and the pictures beside it.

    Args:
        folder: where the report goes.
        title: its headline.
        tables: the rows of each seed, in the same order.
        pretrainings: work folder of each pretraining drawn, by name.
        detectors: work folder of each detector drawn, by the name of its
            initialisation; the last is of a pretrained student.
        data_root: folder of the garment scenes.
        planes: work folder of each probe whose information plane is drawn,
            by name.

    Returns:
        Path of ``report.md``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = write_table(folder, COLUMNS, tables)

    plot_losses(pretrainings, folder / 'losses.png')
    plot_knn(pretrainings, folder / 'knn.png')
    draw_detections(detectors, data_root, folder / 'detections.png')

    text = [
        f'# {title}',
        '',
        *table,
        '',
        f'{count_seeds(tables)}. '
        'Accuracies and AP50 in percent; k-NN: k = 20, T = 0.07; linear: '
        'logistic regression on frozen features with 1 % (mean of five '
        'draws) or all of the labels; detection: a small Faster R-CNN, the '
        'stem and first stage frozen, from random weights (untrained) or '
        f'the {list(detectors)[-1]}. All pretrainings made the same number '
        'of student updates, from weights of their own. Minutes are those '
        'of the pretraining; those of OSS include its online teacher, those '
        'of a method with a frozen teacher leave out the training of that '
        'teacher (the row of the OSS teacher). The pictures are of seed 0.',
        '',
        '![loss terms](losses.png)',
        '![k-NN while training](knn.png)',
        '![detections](detections.png)',
        '',
    ]
    if planes:
        plot_information_plane(
            {name: read_plane(run) for name, run in planes.items()},
            folder / 'information_plane.png',
        )
        text += [
            'What a linear probe of each frozen student keeps of the image '
            'and of the label in its first epoch:',
            '',
            '![information plane](information_plane.png)',
            '',
        ]
    path = folder / 'report.md'
    path.write_text('\n'.join(text))
    return path
