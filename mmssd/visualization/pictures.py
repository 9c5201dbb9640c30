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
    rows: Sequence[Sequence[np.ndarray | None]],
    path: str | Path,
    columns: Sequence[str],
    names: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
    title: str = '',
    groups: Sequence[tuple[str, int]] = (),
    frames: Sequence[Sequence[str | None]] | None = None,
    legend: dict[str, str] | None = None,
    cell: float = 2.2,
) -> None:
    """Draw images in a grid with titles.

    Args:
        rows: images ``(H, W, 3)`` uint8, RGB, row by row; ``None`` leaves a
            cell empty.
        path: PNG file to write.
        columns: a title above each column.
        names: a title beside each row.
        captions: a text below each image.
        title: a line above all.
        groups: titles above neighbouring columns and how many those are,
            from the left; there is a gap between groups.
        frames: a colour around each image, ``None`` for none.
        legend: what the colours of the frames mean, colour by text.
        cell: width of a column in inches.

    Raises:
        ValueError: if there is nothing to draw, or the groups have another
            number of columns.
    """
    if not rows or not columns:
        raise ValueError('there are no images to draw')
    sizes = [size for _, size in groups] or [len(columns)]
    if sum(sizes) != len(columns):
        raise ValueError(f'groups of {sizes} for {len(columns)} columns')
    plt = _pyplot()
    # a place for each column, and a narrow one before each further group
    places, widths = [], []
    for number, size in enumerate(sizes):
        if number:
            widths.append(0.25)
        places += range(len(widths), len(widths) + size)
        widths += [1.0] * size
    lines = 1 + max(
        (text.count('\n') for row in captions or [] for text in row if text),
        default=-1,
    )
    # of each row, as high as its highest image is at this width
    heights = [
        max(
            (image.shape[0] / image.shape[1] for image in row if _is(image)),
            default=1,
        )
        * cell
        + 0.17 * lines
        + 0.08
        for row in rows
    ]
    figure = plt.figure(figsize=(cell * sum(widths), sum(heights)))
    grid = figure.add_gridspec(
        len(rows),
        len(widths),
        width_ratios=widths,
        height_ratios=heights,
        wspace=0.05,
        hspace=0.0,
        left=0,
        right=1,
        bottom=0,
        top=1,
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axis = figure.add_subplot(grid[i, places[j]], anchor='N')
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(columns[j], fontsize=9)
            if j == 0:
                axis.set_ylabel(names[i], fontsize=9)
            if not _is(image):
                continue
            axis.imshow(image)
            if captions:
                axis.set_xlabel(captions[i][j], fontsize=8, labelpad=2)
            if frames and frames[i][j]:
                axis.spines[:].set(
                    visible=True, color=frames[i][j], linewidth=3
                )
    high = sum(heights)
    above = 0.25 + 0.15 * max(text.count('\n') + 1 for text in columns)
    start = 0
    for text, size in groups:
        x = (sum(widths[: places[start]]) + size / 2) / sum(widths)
        figure.text(
            x, 1 + above / high, text, ha='center', va='bottom', weight='bold'
        )
        start += size
    above += 0.3 if groups else 0
    if title:
        figure.text(
            0.5, 1 + above / high, title, ha='center', va='bottom', fontsize=11
        )
    if legend:
        figure.legend(
            handles=[
                plt.Rectangle(
                    (0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=3
                )
                for colour in legend.values()
            ],
            labels=list(legend),
            loc='upper center',
            bbox_to_anchor=(0.5, -0.1 / high),
            ncols=len(legend),
            frameon=False,
        )
    _save(figure, path)


def _is(image: np.ndarray | None) -> bool:
    return image is not None


def draw_points(
    panels: dict[str, np.ndarray],
    labels: np.ndarray,
    path: str | Path,
    classes: Sequence[str] | None = None,
    title: str = '',
) -> None:
    """Draw points in the plane, coloured by class, one panel a network.

    Args:
        panels: by title ``(n, 2)`` points.
        labels: ``(n,)`` class indices.
        path: PNG file to write.
        classes: their names, for the legend.
        title: a line above all.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5 * len(panels), 4.6), squeeze=False
    )
    found = np.unique(labels)
    colours = plt.get_cmap('tab10' if len(found) <= 10 else 'gist_rainbow')
    steps = range(10) if len(found) <= 10 else np.linspace(0, 1, len(found))
    for axis, (name, points) in zip(axes[0], panels.items(), strict=True):
        for step, label in zip(steps, found, strict=False):
            chosen = points[labels == label]
            axis.scatter(
                *chosen.T,
                s=8,
                color=colours(step),
                label=classes[label] if classes else f'class {label}',
                linewidths=0,
            )
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    if len(found) <= 20:
        axes[0, -1].legend(
            loc='center left',
            bbox_to_anchor=(1, 0.5),
            frameon=False,
            markerscale=2,
        )
    if title:
        figure.suptitle(title, fontsize=11, y=1.03)
    _save(figure, path)


def _logarithmic(value: float, position: int | None = None) -> str:
    """Label 1, 2 and 5 times a power of ten."""
    digit = f'{value:e}'[0]
    return f'{value:g}' if digit in '125' else ''


def draw_lines(
    panels: dict[str, tuple[str, dict[str, tuple]]],
    path: str | Path,
    names: Sequence[str],
    along: str,
    log: bool = False,
) -> None:
    """Draw panels of lines with one legend.

    A name has the same colour in all panels.

    Args:
        panels: by title, the label of the vertical axis, and by name arrays
            of x, of raw and of smoothed values.
        path: PNG file to write.
        names: of the lines, in the order of the legend.
        along: label of the horizontal axis.
        log: a logarithmic vertical axis.

    Raises:
        ValueError: if a logarithmic axis has no value above 0 to show.
    """
    plt = _pyplot()
    wide = 2 if len(panels) == 4 else min(len(panels), 3)
    high = -(-len(panels) // wide)
    figure, axes = plt.subplots(
        high,
        wide,
        figsize=(4.8 * wide, 3.4 * high),
        squeeze=False,
        layout='constrained',
    )
    colours = plt.get_cmap('tab10' if len(names) <= 10 else 'tab20').colors
    handles: dict[str, object] = {}
    for axis in axes.flat[len(panels) :]:
        axis.axis('off')
    for axis, (title, (label, lines)) in zip(
        axes.flat, panels.items(), strict=False
    ):
        for number, name in enumerate(names):
            if name not in lines:
                continue
            x, raw, smoothed = (np.asarray(v) for v in lines[name])
            colour = colours[number % len(colours)]
            if log:
                raw, smoothed = (
                    np.where(v > 0, v, np.nan) for v in (raw, smoothed)
                )
                if not np.isfinite(smoothed).any():
                    raise ValueError(
                        f'{title} of {name}: no value above 0 for a '
                        'logarithmic axis'
                    )
            if not np.array_equal(raw, smoothed, equal_nan=True):
                axis.plot(x, raw, color=colour, alpha=0.25, linewidth=0.8)
            # a single point would not show as a line
            marker = 'o' if len(x) <= 20 else None
            (handles[name],) = axis.plot(
                x, smoothed, color=colour, marker=marker, markersize=3
            )
        if log:
            axis.set_yscale('log')
            low, high = axis.get_ylim()
            axis.yaxis.set_major_formatter(_logarithmic)
            # between the powers of ten, where there are few of them
            axis.yaxis.set_minor_formatter(
                _logarithmic if high < 300 * low else ''
            )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(along)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    figure.legend(
        handles.values(),
        handles,
        loc='outside lower center',
        ncols=min(len(handles), 5),
        frameon=False,
    )
    _save(figure, path)
