"""Lists of labelled images: a share of the labels, some of the classes.

A list has one image a line, its path below the folder of the split and its
class index, as mmpretrain's ``CustomDataset`` and ``ImageNet`` read it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
SIZE_TOLERANCE = 0.05  # of a published list, relative
Sample = tuple[str, int]  # path below the folder, class index


def list_folder(
    folder: str | Path, classes: Sequence[str] | None = None
) -> list[Sample]:
    """List the images of a folder with one folder for each class.

    Args:
        folder: with the folders of the classes.
        classes: names of these folders, in the order of their indices; by
            default all, sorted.

    Returns:
        Path below ``folder`` and class index of every image, sorted.

    Raises:
        FileNotFoundError: if the folder, or that of a class, is missing.
        ValueError: if a class has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder.absolute()}')
    if classes is None:
        classes = sorted(
            entry.name for entry in os.scandir(folder) if entry.is_dir()
        )
        if not classes:
            raise FileNotFoundError(
                f'{folder} has no folders: expected one for each class'
            )
    samples = []
    for label, name in enumerate(classes):
        inside = folder / name
        if not inside.is_dir():
            raise FileNotFoundError(f'class {name!r}: no folder {inside}')
        found = sorted(
            path.relative_to(folder).as_posix()
            for path in inside.rglob('*')
            if path.suffix.lower() in EXTENSIONS
        )
        if not found:
            raise ValueError(f'class {name!r}: no image in {inside}')
        samples += [(path, label) for path in found]
    return samples


def stratified_list(
    samples: Sequence[Sample],
    fraction: float | None = None,
    seed: int = 0,
    per_class: int | None = None,
) -> list[Sample]:
    """Draw the same share or number of every class, by a seed.

    Not the list that others have published: their images cannot be drawn
    again. Equal on every machine; smaller draws lie within larger ones.

    Args:
        samples: as :func:`list_folder` returns them.
        fraction: share of every class in (0, 1], at least one image.
        seed: of the draw. Defaults to 0.
        per_class: images of every class (low-shot), instead of ``fraction``.

    Raises:
        ValueError: if not one of both is given, it is out of range, a class
            has too few images, or there are none.
    """
    from mmssd.evaluation.linear_probe import stratified_subset

    samples = sorted(samples)
    labels = np.array([label for _, label in samples], dtype=np.int64)
    rows = stratified_subset(labels, fraction, per_class, seed)
    return [samples[row] for row in rows]


def published_list(
    lines: Iterable[str],
    samples: Sequence[Sample],
    fraction: float | None = None,
) -> list[Sample]:
    """Look up the images of a published list, every line of it.

    SimCLR's lists of ImageNet have 12,811 and 128,116 of 1,281,167 images.

    Args:
        lines: names of images, such as ``n01440764_10026.JPEG``, with or
            without the folder of the class. Empty lines do not count; the
            first one is an image like the others.
        samples: all images, as :func:`list_folder` returns them.
        fraction: share of all images that the list is said to be.

    Raises:
        ValueError: naming lines without an image, or twice the same; or if
            the list has another size than the share, by more than 5 %.
    """
    by_name = {Path(path).name: (path, label) for path, label in samples}
    names = [Path(line.strip()).name for line in lines if line.strip()]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(names)} listed images are not in the '
            f'folder: {", ".join(missing[:5])}'
        )
    if len(set(names)) != len(names):
        raise ValueError(
            f'the list names {len(names) - len(set(names))} images twice'
        )
    if fraction is not None:
        expected = fraction * len(samples)
        # one image is within the rounding
        if abs(len(names) - expected) > max(1, SIZE_TOLERANCE * expected):
            raise ValueError(
                f'the list names {len(names)} images, but {100 * fraction:g} '
                f'% of the {len(samples)} in the folder are {expected:.0f}: '
                'give the list of that share, or the fraction of the list, '
                f'{len(names) / len(samples):.3g}'
            )
    return sorted(by_name[name] for name in names)


def tiny_imagenet_val(
    root: str | Path, classes: Sequence[str]
) -> list[Sample]:
    """List the validation images of Tiny-ImageNet.

    Args:
        root: its folder, with ``val/val_annotations.txt``.
        classes: names in the order of their indices.

    Returns:
        Path below ``val/images`` and class index.

    Raises:
        FileNotFoundError: if the annotations are missing.
        ValueError: if a line or a class is unknown.
    """
    path = Path(root) / 'val' / 'val_annotations.txt'
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path.absolute()}')
    index = {name: label for label, name in enumerate(classes)}
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        image, _, rest = line.partition('\t')
        name = rest.split('\t')[0]
        if name not in index:
            raise ValueError(
                f'{path}, line {number}: {line!r} names no class of the '
                'training images'
            )
        samples.append((image, index[name]))
    return samples


def write_list(
    path: str | Path,
    samples: Sequence[Sample],
    origin: str,
    force: bool = False,
) -> Path:
    """Write a list, and beside it, as ``.json``, where it comes from.

    Args:
        path: of the list.
        samples: path and class index of every image.
        origin: how the images were chosen.
        force: replace an existing list.

    Raises:
        FileExistsError: if the list is there and ``force`` is not set.
    """
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists: --force replaces it')
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ''.join(f'{name} {label}\n' for name, label in samples)
    path.write_text(text)
    record = dict(
        origin=origin,
        images=len(samples),
        classes=len({label for _, label in samples}),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    path.with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n')
    return path
