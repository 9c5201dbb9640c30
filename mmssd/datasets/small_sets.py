"""Small real data sets, from their packages to what the configs read.

Each is written beside its place, which appears when everything is there, and
checked: every image has its annotation, and every label its class.
"""

import io
import json
import shutil
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from .coco_subsets import check_images

IGNORED = 255  # label of pixels that count nowhere, as mmseg's
LISTED = 5  # names in an error
DONE = 'done.json'  # says what a finished folder holds


def _some(names: Sequence[str]) -> str:
    more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return ', '.join(names[:LISTED]) + more


# --- images in an array file ------------------------------------------------


def unpack_images(path: str | Path, out: str | Path) -> dict[str, int]:
    """Write the images of an ``.npz`` into one folder for each class.

    The file has ``classes`` and for each split S ``S_blob``, all JPEG files
    one behind the other, ``S_offsets``, ``n + 1`` of them, and ``S_labels``.
    Bytes are copied, not encoded again. A folder is named by the first word
    of its class (the WordNet id, where there is one).

    Args:
        path: the ``.npz``.
        out: folder; images go to ``out/S/<class>/<number>.jpg``.

    Returns:
        Number of images by split.

    Raises:
        ValueError: if an array is missing, or does not fit the others.
    """
    path, out = Path(path), Path(out)
    counts = {}
    with np.load(path) as arrays:
        splits = sorted(
            name.removesuffix('_blob')
            for name in arrays.files
            if name.endswith('_blob')
        )
        if not splits or 'classes' not in arrays.files:
            raise ValueError(
                f'{path} has {_some(arrays.files) or "nothing"}: expected '
                'classes, and S_blob, S_offsets and S_labels of each split S'
            )
        folders = [str(name).split()[0] for name in arrays['classes']]
        if len(set(folders)) != len(folders):
            raise ValueError(f'{path}: two classes begin with the same word')
        for split in splits:
            missing = {f'{split}_offsets', f'{split}_labels'} - set(
                arrays.files
            )
            if missing:
                raise ValueError(f'{path} has no {_some(sorted(missing))}')
            blob = arrays[f'{split}_blob']
            offsets = arrays[f'{split}_offsets']
            labels = arrays[f'{split}_labels']
            if len(offsets) != len(labels) + 1 or (np.diff(offsets) < 1).any():
                raise ValueError(
                    f'{path}: {len(offsets)} {split}_offsets for '
                    f'{len(labels)} labels; expected one more, rising'
                )
            if offsets[-1] > len(blob):
                raise ValueError(
                    f'{path}: the split {split} ends at byte {offsets[-1]} '
                    f'of {len(blob)}: the file is cut short'
                )
            if len(labels) and not (
                0 <= labels.min() and labels.max() < len(folders)
            ):
                raise ValueError(
                    f'{path}: {split}_labels from {labels.min()} to '
                    f'{labels.max()}, but {len(folders)} classes'
                )
            absent = sorted(set(range(len(folders))) - set(labels.tolist()))
            if absent:
                raise ValueError(
                    f'{path}: the split {split} has no image of '
                    f'{_some([folders[label] for label in absent])}'
                )
            for folder in folders:
                (out / split / folder).mkdir(parents=True, exist_ok=True)
            for index, label in enumerate(labels):
                data = blob[offsets[index] : offsets[index + 1]].tobytes()
                if index == 0:
                    Image.open(io.BytesIO(data)).verify()
                name = f'{split}/{folders[label]}/{index:06d}.jpg'
                (out / name).write_bytes(data)
            counts[split] = len(labels)
    return counts


# --- masks ------------------------------------------------------------------


def convert_camvid(source: str | Path, out: str | Path) -> dict[str, int]:
    """Write CamVid as mmseg reads it, with 255 for what is not labelled.

    Args:
        source: with ``classes.txt``, one name a line, the last of which is
            of the pixels that do not count; and for each split S the folders
            ``S`` and ``Sannot`` of images and masks of equal names.
        out: folder; ``out/S/images`` and ``out/S/masks``.

    Returns:
        Number of images by split.

    Raises:
        FileNotFoundError: naming images without a mask, or masks without an
            image; or if there is no split.
        ValueError: if sizes differ, or a mask has a class that is none.
    """
    source, out = Path(source), Path(out)
    names = (source / 'classes.txt').read_text().split('\n')
    names = [name.strip() for name in names if name.strip()]
    void = len(names) - 1
    splits = sorted(
        folder.name.removesuffix('annot') for folder in source.glob('*annot')
    )
    if not splits:
        raise FileNotFoundError(f'{source} has no folder such as trainannot')
    counts = {}
    for split in splits:
        images = {p.stem: p for p in sorted((source / split).glob('*.*'))}
        masks = {p.stem: p for p in (source / f'{split}annot').glob('*.png')}
        for kind, other, lonely in (
            ('images', 'mask', sorted(set(images) - set(masks))),
            ('masks', 'image', sorted(set(masks) - set(images))),
        ):
            if lonely:
                raise FileNotFoundError(
                    f'{source}, {split}: {len(lonely)} {kind} without '
                    f'{other}: {_some(lonely)}'
                )
        for kind in ('images', 'masks'):
            (out / split / kind).mkdir(parents=True)
        for stem, path in images.items():
            mask = np.array(Image.open(masks[stem]))
            size = Image.open(path).size[::-1]
            if mask.shape != size:
                raise ValueError(
                    f'{masks[stem]} is {mask.shape}, its image {size}'
                )
            if mask.max() > void:
                raise ValueError(
                    f'{masks[stem]} has the class {mask.max()}; there are '
                    f'{void}, and {void} for what does not count'
                )
            mask[mask == void] = IGNORED
            shutil.copyfile(path, out / split / 'images' / path.name)
            Image.fromarray(mask).save(out / split / 'masks' / f'{stem}.png')
        counts[split] = len(images)
    (out / 'classes.txt').write_text('\n'.join(names[:void]) + '\n')
    return counts


# --- boxes ------------------------------------------------------------------


def voc_to_coco(root: str | Path, split: str, classes: Sequence[str]) -> dict:
    """Read a split in VOC's layout as annotations in COCO's.

    VOC counts pixels from 1 and both ends of a box: its left edge is
    ``xmin - 1``, its width ``xmax - xmin + 1``. Difficult objects become
    crowds, which neither evaluation counts.

    Args:
        root: with ``ImageSets/Main/<split>.txt``, ``Annotations`` and
            ``JPEGImages``.
        split: name of the list.
        classes: in the order of their category ids, from 1.

    Returns:
        ``images``, ``annotations`` and ``categories``.

    Raises:
        FileNotFoundError: naming images or annotations that are missing.
        ValueError: if an image is listed twice, an object is of a class
            that is none, or a box is empty or outside its image.
    """
    root = Path(root)
    path = root / 'ImageSets' / 'Main' / f'{split}.txt'
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}')
    # of the lists of one class the second word says whether it is there
    names = [line.split()[0] for line in path.read_text().splitlines() if line]
    if len(set(names)) != len(names):
        raise ValueError(f'{path} lists an image twice')
    for folder, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.xml')):
        missing = [
            name
            for name in names
            if not (root / folder / f'{name}{suffix}').is_file()
        ]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(names)} listed in {path} have no '
                f'file in {root / folder}: {_some(missing)}'
            )
    ids = {name: number for number, name in enumerate(classes, 1)}
    content = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )
    for image_id, name in enumerate(names, 1):
        width, height = Image.open(root / 'JPEGImages' / f'{name}.jpg').size
        content['images'].append(
            dict(
                id=image_id,
                file_name=f'{name}.jpg',
                width=width,
                height=height,
            )
        )
        file = root / 'Annotations' / f'{name}.xml'
        for item in ElementTree.parse(file).getroot().iter('object'):
            kind = item.findtext('name', '').strip()
            if kind not in ids:
                raise ValueError(
                    f'{file}: an object is of the class {kind!r}, which is '
                    f'not among {", ".join(ids)}'
                )
            left, top, right, bottom = (
                float(item.findtext(f'bndbox/{side}', 'nan'))
                for side in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            if not (1 <= left <= right <= width + 1) or not (
                1 <= top <= bottom <= height + 1
            ):
                raise ValueError(
                    f'{file}: the box {left:g}, {top:g}, {right:g}, '
                    f'{bottom:g} does not fit an image of {width} x {height}'
                )
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,
                    image_id=image_id,
                    category_id=ids[kind],
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=int(item.findtext('difficult', '0') == '1'),
                )
            )
    return content


def convert_voc(
    source: str | Path, out: str | Path, classes: Sequence[str]
) -> dict[str, int]:
    """Write the splits ``trainval`` and ``test`` of VOC's layout as COCO's.

    Args:
        source: see :func:`voc_to_coco`.
        out: folder; ``out/images`` and ``out/annotations/<split>.json``.
        classes: see :func:`voc_to_coco`.

    Returns:
        Number of images by split.

    Raises:
        FileNotFoundError: see :func:`voc_to_coco`.
        ValueError: see there; or if an image is in both splits.
    """
    source, out = Path(source), Path(out)
    contents = {
        split: voc_to_coco(source, split, classes)
        for split in ('trainval', 'test')
    }
    trained, tested = (
        {image['file_name'] for image in content['images']}
        for content in contents.values()
    )
    if trained & tested:
        raise ValueError(
            f'{source}: {len(trained & tested)} images are in trainval and '
            f'in test: {_some(sorted(trained & tested))}'
        )
    (out / 'annotations').mkdir(parents=True)
    (out / 'images').mkdir()
    for split, content in contents.items():
        path = out / 'annotations' / f'{split}.json'
        path.write_text(json.dumps(content))
        for image in content['images']:
            name = image['file_name']
            shutil.copyfile(
                source / 'JPEGImages' / name, out / 'images' / name
            )
    return {split: len(c['images']) for split, c in contents.items()}


def copy_coco(source: str | Path, out: str | Path) -> dict[str, int]:
    """Copy images and boxes in COCO's layout, once they are checked.

    Args:
        source: with ``annotations/instances_<split>.json`` and ``<split>``
            for ``train2017`` and ``val2017``.
        out: folder of the same layout.

    Returns:
        Number of images by split.

    Raises:
        FileNotFoundError: naming files that are missing.
        ValueError: if an annotation is of no image or of no category, or
            the splits differ in their categories.
    """
    source, out = Path(source), Path(out)
    counts, categories = {}, {}
    for split in ('train2017', 'val2017'):
        path = source / 'annotations' / f'instances_{split}.json'
        if not path.is_file():
            raise FileNotFoundError(f'there is no {path}')
        content = json.loads(path.read_text())
        check_images(content, source / split)
        for key, owners in (
            ('image_id', {image['id'] for image in content['images']}),
            ('category_id', {c['id'] for c in content['categories']}),
        ):
            strange = {a[key] for a in content['annotations']} - owners
            if strange:
                raise ValueError(
                    f'{path}: annotations with {key} {min(strange)}, which '
                    'is not listed'
                )
        categories[split] = [c['name'] for c in content['categories']]
        counts[split] = len(content['images'])
    first, second = categories.values()
    if first != second:
        raise ValueError(
            f'{source}: train2017 and val2017 have different classes: '
            f'{_some(sorted(set(first) ^ set(second)))}'
        )
    (out / 'annotations').mkdir(parents=True)
    for split in counts:
        name = f'annotations/instances_{split}.json'
        shutil.copyfile(source / name, out / name)
        shutil.copytree(source / split, out / split)
    return counts


# --- all of them ------------------------------------------------------------

Converter = Callable[[Path, Path], dict[str, int]]
# by the name of the folder: the file or folder it comes from, and how
SETS: dict[str, tuple[str, Converter]] = {
    'cifar10': ('cifar10_jpeg.npz', unpack_images),
    'tiny-imagenet-100': ('tinyimagenet100_jpeg.npz', unpack_images),
    'coco-mini': ('coco_mini.tar', copy_coco),
    'camvid': ('camvid.tar', convert_camvid),
    'kangaroo-raccoon': (
        'kangaroo_raccoon_voc.tar',
        lambda source, out: convert_voc(source, out, ('kangaroo', 'raccoon')),
    ),
}


def _find(folder: Path, name: str) -> Path | None:
    """Return the file of a set, or the folder that it was unpacked to."""
    for path in (folder / name, folder / name.removesuffix('.tar')):
        if path.exists():
            return path
    return None


@contextmanager
def _unpacked(path: Path, beside: Path) -> Iterator[Path]:
    """Yield the folder in a tar file, or the path itself if it is none."""
    if path.suffix != '.tar':
        yield path
        return
    place = beside.with_name(f'{beside.name}.tar.part')
    shutil.rmtree(place, ignore_errors=True)
    try:
        with tarfile.open(path) as archive:
            archive.extractall(place, filter='data')
        inside = place / path.stem
        if not inside.is_dir():
            raise ValueError(f'{path} has no folder {path.stem}')
        yield inside
    finally:
        shutil.rmtree(place, ignore_errors=True)


def make_small_sets(
    source: str | Path,
    out: str | Path,
    names: Sequence[str] = (),
    force: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, dict[str, int]]:
    """Prepare the data of the suite ``small``.

    Args:
        source: folder with the files of :data:`SETS`, or with what they were
            unpacked to.
        out: folder; each set becomes a folder in it.
        names: of the sets; by default those that ``source`` has.
        force: make them again.
        say: prints progress.

    Returns:
        Number of images by set and split.

    Raises:
        FileNotFoundError: if a set is not there, or a file of it is not.
        ValueError: if a name or something in the data does not fit.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    unknown = sorted(set(names) - set(SETS))
    if unknown:
        raise ValueError(f'{_some(unknown)}: there are {", ".join(SETS)}')
    found = {name: _find(source, SETS[name][0]) for name in names or SETS}
    missing = [name for name, path in found.items() if path is None]
    if len(missing) == len(found) or (names and missing):
        raise FileNotFoundError(
            f'{source.absolute()} has none of '
            + ', '.join(SETS[name][0] for name in missing)
        )
    counts = {}
    for name, path in found.items():
        if path is None:
            say(f'{name}: no {SETS[name][0]} in {source}, left out')
            continue
        target = out / name
        done = target / DONE
        if done.is_file() and not force:
            counts[name] = json.loads(done.read_text())
            say(f'{name}: there already, {counts[name]} images')
            continue
        if target.exists() and not force:
            raise FileExistsError(
                f'{target} exists and was not made by this: --force '
                'replaces it'
            )
        part = target.with_name(f'{name}.part')
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with _unpacked(path, target) as unpacked:
            counts[name] = SETS[name][1](unpacked, part)
        (part / DONE).write_text(json.dumps(counts[name]) + '\n')
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        say(f'{name}: {counts[name]} images in {target}')
    return counts
