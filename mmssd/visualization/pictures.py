"""Pictures that the analysis tools share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def _pyplot():
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    return plt


def _save(figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches='tight')
    _pyplot().close(figure)


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a map over an image: from blue, 0, to red, 1.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.
        values: ``(H, W)`` in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8, half image and half map.
    """
    colours = _pyplot().get_cmap('jet')(values)[..., :3]
    return np.uint8(np.round(127.5 * colours + image / 2))


def draw_grid(
    rows: Sequence[Sequence[np.ndarray]],
    path: str | Path,
    columns: Sequence[str],
    names: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
) -> None:
    """Draw images in a grid with titles.

    Args:
        rows: images ``(H, W, 3)`` uint8, RGB, row by row.
        path: PNG file to write.
        columns: a title above each column.
        names: a title beside each row.
        captions: a text below each image.
    """
    figure, axes = _pyplot().subplots(
        len(rows),
        len(columns),
        figsize=(2.2 * len(columns), 2.4 * len(rows)),
        squeeze=False,
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axis = axes[i, j]
            axis.imshow(image)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(columns[j], fontsize=10)
            if j == 0:
                axis.set_ylabel(names[i], fontsize=10)
            if captions:
                axis.set_xlabel(captions[i][j], fontsize=8)
    figure.tight_layout(pad=0.5)
    _save(figure, path)


def draw_points(
    panels: dict[str, np.ndarray],
    labels: np.ndarray,
    path: str | Path,
    classes: Sequence[str] | None = None,
) -> None:
    """Draw points in the plane, coloured by class, one panel a network.

    Args:
        panels: by title ``(n, 2)`` points.
        labels: ``(n,)`` class indices.
        path: PNG file to write.
        classes: their names, for the legend.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5 * len(panels), 4.6), squeeze=False
    )
    found = np.unique(labels)
    colours = plt.get_cmap('tab10' if len(found) <= 10 else 'gist_rainbow')
    steps = range(10) if len(found) <= 10 else np.linspace(0, 1, len(found))
    for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
        for step, label in zip(steps, found, strict=False):
            chosen = points[labels == label]
            axis.scatter(
                *chosen.T,
                s=8,
                color=colours(step),
                label=classes[label] if classes else str(label),
                linewidths=0,
            )
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    if len(found) <= 20:
        axes[0, -1].legend(
            loc='center left', bbox_to_anchor=(1, 0.5), frameon=False
        )
    _save(figure, path)
