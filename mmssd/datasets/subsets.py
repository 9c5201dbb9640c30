"""Few images of every class, as an annotation list."""

from pathlib import Path

from mmpretrain.datasets import CustomDataset

from mmssd.evaluation.linear_probe import stratified_subset

LISTED = 10  # classes in a message


def labelled_images(
    root: str | Path, ann_file: str | Path | None = None
) -> tuple[list[tuple[str, int]], list[str]]:
    """List the images of a folder with their labels, as mmpretrain does.

    Args:
        root: folder with a sub-folder per class, whose sorted order is that
            of the labels; or, with ``ann_file``, of the paths in it.
        ann_file: lines ``<path> <label>``.

    Returns:
        Paths relative to ``root`` with ``/``, and labels; names of the
        classes, their numbers if a list is given.

    Raises:
        FileNotFoundError: if the folder or the list does not exist.
        ValueError: if there are no images, or a line is no path and label.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f'there is no folder {root.absolute()}')
    if ann_file is not None:
        return _listed(Path(ann_file).expanduser())
    try:
        dataset = CustomDataset(data_root=str(root), serialize_data=False)
    except RuntimeError as error:
        raise ValueError(
            f'{root}: no images in its sub-folders, of which each is a class '
            f'({error})'
        ) from error
    rows = [dataset.get_data_info(index) for index in range(len(dataset))]
    images = [
        (Path(row['img_path']).relative_to(root).as_posix(), row['gt_label'])
        for row in rows
    ]
    return images, list(dataset.CLASSES)


def _listed(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    if not path.is_file():
        raise FileNotFoundError(f'there is no list {path.absolute()}')
    images = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.isdecimal():
            raise ValueError(
                f'{path}, line {number}: {line!r} is not "<path> <label>"'
            )
        images.append((name, int(label)))
    if not images:
        raise ValueError(f'{path} is empty')
    # a label without images is a class without images
    number = max(label for _, label in images) + 1
    return images, [str(label) for label in range(number)]


def draw_subset(
    root: str | Path,
    per_class: int,
    seed: int = 0,
    ann_file: str | Path | None = None,
) -> list[tuple[str, int]]:
    """Draw the same number of images of every class.

    By :func:`~mmssd.evaluation.stratified_subset`: the same on every
    machine, and with one seed a smaller draw is part of a larger one.

    Args:
        root: see :func:`labelled_images`.
        per_class: images of every class.
        seed: of the draw. Defaults to 0.
        ann_file: see :func:`labelled_images`.

    Returns:
        Paths relative to ``root`` and labels, in the order of the folder.

    Raises:
        FileNotFoundError: if the folder or the list does not exist.
        ValueError: naming the classes that have fewer images, and how many.
    """
    if per_class < 1:
        raise ValueError(f'per_class={per_class}: must be at least 1')
    images, classes = labelled_images(root, ann_file)
    labels = [label for _, label in images]
    counts = [0] * len(classes)
    for label in labels:
        counts[label] += 1
    short = [
        f'{name} ({count})'
        for name, count in zip(classes, counts, strict=True)
        if count < per_class
    ]
    if short:
        more = len(short) - LISTED
        raise ValueError(
            f'{per_class} images per class are asked for, but '
            f'{len(short)} of {len(classes)} class(es) have fewer: '
            + ', '.join(short[:LISTED])
            + (f' and {more} more' if more > 0 else '')
        )
    chosen = stratified_subset(labels, per_class=per_class, seed=seed)
    return [images[index] for index in chosen]


def write_list(images: list[tuple[str, int]], path: str | Path) -> None:
    """Write an annotation list of ``CustomDataset`` or ``ImageNet``.

    Args:
        images: paths and labels.
        path: of the list; its folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{name} {label}\n' for name, label in images))
