"""The picture of what probes keep of input and label while they train."""

import json
from pathlib import Path

FILE = 'information_plane.json'
WIDEST = 4  # panels in a row


def read_plane(run: str | Path) -> list[dict]:
    """Return the records of an ``InformationPlaneHook``, oldest first.

    Args:
        run: folder of the run, or the file itself.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it holds no records of that kind.
    """
    path = Path(run)
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{path}: no such file; train with '
            "custom_hooks=[dict(type='InformationPlaneHook', ...)]"
        )
    keys = ('iter', 'epoch', 'i_xt', 'i_ty')
    try:
        records = [json.loads(line) for line in path.read_text().splitlines()]
        points = [{key: record[key] for key in keys} for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: not the record of an InformationPlaneHook ({error})'
        ) from error
    if not points:
        raise ValueError(f'{path}: no records yet')
    return sorted(points, key=lambda point: point['iter'])


def plot_information_plane(
    runs: dict[str, list[dict]], path: str | Path
) -> None:
    """Draw I(T; Y) over I(X; T), a panel for each run, colour by epoch.

    All panels have the same axes and colours; the other runs are shown in
    grey behind, the last point of each run with a ring.

    Args:
        runs: records by name, see :func:`read_plane`.
        path: of the picture, its ending tells the format.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    wide = min(len(runs), WIDEST)
    high = -(-len(runs) // wide)
    figure, axes = plt.subplots(
        high,
        wide,
        figsize=(1.2 + 3.8 * wide, 4 * high),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout='constrained',
    )
    epochs = [point['epoch'] for points in runs.values() for point in points]
    limits = plt.Normalize(min(epochs), max(max(epochs), min(epochs) + 1e-6))
    columns = {
        name: [[p[key] for p in points] for key in ('i_xt', 'i_ty', 'epoch')]
        for name, points in runs.items()
    }
    for axis in axes.flat[len(runs) :]:
        axis.axis('off')
    for axis, name in zip(axes.flat, runs, strict=False):
        for other, (x, y, _) in columns.items():
            if other != name:
                axis.scatter(x, y, s=6, color='0.85', zorder=1)
        x, y, epoch = columns[name]
        axis.plot(x, y, color='0.5', linewidth=0.6, zorder=2)
        dots = axis.scatter(
            x, y, c=epoch, norm=limits, cmap='viridis', s=16, zorder=3
        )
        axis.scatter(
            x[-1:],
            y[-1:],
            s=90,
            facecolors='none',
            edgecolors='tab:red',
            linewidths=1.5,
            zorder=4,
        )
        axis.set_title(name)
        axis.set_xlabel('I(X; T) in bits')
        axis.tick_params(labelbottom=True)  # nothing may stand below
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel('I(T; Y) in bits')
    figure.colorbar(dots, ax=axes, label='epoch', shrink=0.9)
    figure.savefig(path, dpi=120)
    plt.close(figure)
