"""Pictures of transfer results: bars for tasks, curves over epochs."""

from math import nan
from pathlib import Path

AT = '@'  # between the name of a run and an epoch of it


def _spread(cell: dict) -> float:
    # of a single run nothing is known of the spread
    return nan if cell['std'] is None else cell['std']


def plot_epochs(rows: list[dict], columns: list[str], path: Path) -> None:
    """Draw every column over the epochs of the runs, as OSS Figure 3.

    A run has the same colour in every column.

    Args:
        rows: of :meth:`Suite.table`, those named ``RUN@EPOCH``.
        columns: titles to draw.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    runs: dict[str, list[tuple[int, dict]]] = {}
    for row in rows:
        name, _, epoch = row['row'].rpartition(AT)
        runs.setdefault(name, []).append((int(epoch), row))
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4 * len(columns), 3.5), squeeze=False
    )
    for axis, column in zip(axes[0], columns, strict=True):
        for index, (name, found) in enumerate(runs.items()):
            points = sorted(
                (epoch, row[column]['mean'], _spread(row[column]))
                for epoch, row in found
                if row[column]
            )
            if points:
                epochs, means, spreads = zip(*points, strict=True)
                axis.errorbar(
                    epochs,
                    means,
                    spreads,
                    marker='o',
                    capsize=3,
                    color=f'C{index}',  # in every column
                    label=name,
                )
        axis.set_title(column)
        axis.set_xlabel('epoch')
        axis.set_ylabel('percent')
        axis.spines[['top', 'right']].set_visible(False)
        if axis.has_data():
            axis.legend(frameon=False)
    figure.savefig(path, dpi=120, bbox_inches='tight')
    plt.close(figure)


def plot_table(rows: list[dict], columns: list[str], path: Path) -> None:
    """Draw a group of bars for each column, with the spread over its runs.

    A row without results keeps its place and colour for later.

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
        if not places:
            continue
        bars = axis.bar(
            [place for place, _ in places],
            [cell['mean'] for _, cell in places],
            width,
            yerr=[_spread(cell) for _, cell in places],
            capsize=3,
            color=f'C{index}',  # also once rows before it have results
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
