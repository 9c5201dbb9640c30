"""Annotations, looked through before anything is trained.

A detector whose classes are called otherwise in the annotations trains
without a single box and without a word; a classifier whose folders differ
between training and validation is tested on other labels than it learned; a
missing image ends a run whenever its turn comes. All are found here at once.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmssd.datasets.coco_subsets import check_images
from mmssd.evaluation.features import check_class_lists

from .config import dataset_class

LOADERS = ('train_dataloader', 'val_dataloader')
HEADS = ('roi_head.bbox_head', 'bbox_head', 'decode_head')
LISTED = 5  # names in an error
SINGLY = 32  # images of a folder that are looked for one by one
OBJECT = re.compile(r'<object>.*?<name>\s*(.*?)\s*</name>', re.DOTALL)
REMEDY = 'Say where they are by --cfg-options {place}.{key}=...'


def check_annotations(cfg: Config) -> None:
    """Refuse annotations that do not fit images, classes or network.

    Looks at data sets of mmdet in COCO's and VOC's formats, at those of
    mmseg, and at lists and folders of images of mmpretrain, of the loaders
    for training and validation. Of several processes the first one does so.

    Args:
        cfg (Config): with model and loaders; other scopes are left alone.

    Raises:
        FileNotFoundError: naming lists, images or masks that are missing.
        ValueError: if the annotations lack classes of the config, its heads
            are for another number of classes, a line of a list is none, or
            the folders of training and validation differ.
    """
    scope = cfg.get('default_scope')
    if os.environ.get('RANK', '0') != '0':
        return
    if scope == 'mmpretrain':
        _check_classification(cfg)
    elif scope in ('mmdet', 'mmseg'):
        _check_dense(cfg, scope)


def _check_dense(cfg: Config, scope: str) -> None:
    for name in LOADERS:
        loader = cfg.get(name) or {}
        for place, dataset in _datasets(loader.get('dataset'), name):
            if '://' in str(dataset.get('data_root')):
                continue
            kind = dataset_class(dataset.get('type'), scope)
            names = {base.__name__ for base in getattr(kind, '__mro__', ())}
            classes = (dataset.get('metainfo') or {}).get('classes') or (
                getattr(kind, 'METAINFO', {}).get('classes')
            )
            if classes:
                _check_heads(cfg, place, classes)
            if kind is None or kind.__module__.startswith('mmssd.'):
                continue
            if kind.__name__ == 'CocoDataset':
                _check_coco(place, dataset, classes)
            elif 'XMLDataset' in names:
                _check_voc(place, dataset, classes)
            elif 'BaseSegDataset' in names:
                _check_masks(place, dataset)


def _datasets(node, place: str) -> Iterator[tuple[str, dict]]:
    """Yield the data sets inside those that repeat or join others."""
    place = f'{place}.dataset'
    while isinstance(node, dict) and 'dataset' in node:
        node, place = node['dataset'], f'{place}.dataset'
    if not isinstance(node, dict):
        return
    if 'datasets' not in node:
        yield place, node
        return
    for index, item in enumerate(node['datasets']):
        for inside, found in _datasets(item, f'{place}.datasets.{index}'):
            # an entry of a list is the data set itself
            yield inside.replace(f'.{index}.dataset', f'.{index}', 1), found


def _some(names: Sequence[str]) -> str:
    more = f' and {len(names) - LISTED} more' if len(names) > LISTED else ''
    return ', '.join(names[:LISTED]) + more


def _check_heads(cfg: Config, place: str, classes: Sequence[str]) -> None:
    for name in HEADS:
        head = cfg.model
        for part in name.split('.'):
            head = head.get(part) if isinstance(head, dict) else None
        number = head.get('num_classes') if isinstance(head, dict) else None
        if isinstance(number, int) and number != len(classes):
            raise ValueError(
                f'model.{name}.num_classes={number}, but {place} has '
                f'{len(classes)} classes: {_some(list(classes))}'
            )


def _under(root: str | None, path: str | None) -> Path:
    return Path(root or '') / (path or '')


def _check_coco(
    place: str, dataset: dict, classes: Sequence[str] | None
) -> None:
    root = dataset.get('data_root')
    path = _under(root, dataset.get('ann_file'))
    if not path.is_file():
        raise FileNotFoundError(
            f'{place}: there is no {path}. '
            + REMEDY.format(place=place, key='ann_file')
        )
    content = json.loads(path.read_text())
    lacking = [
        key
        for key in ('images', 'annotations', 'categories')
        if key not in content
    ]
    if lacking:
        raise ValueError(f'{place}: {path} has no {", ".join(lacking)}')
    names = [category['name'] for category in content['categories']]
    absent = [name for name in classes or () if name not in names]
    if absent:
        raise ValueError(
            f'{place}: {_some(absent)} of its {len(classes)} classes are '
            f'not among those of {path}: {_some(names)}. Set metainfo.classes '
            'to names of that file'
        )
    try:
        check_images(
            content,
            _under(root, (dataset.get('data_prefix') or {}).get('img')),
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{place}: {error}. '
            + REMEDY.format(place=place, key='data_prefix.img')
        ) from None


def _check_voc(
    place: str, dataset: dict, classes: Sequence[str] | None
) -> None:
    root = dataset.get('data_root')
    path = _under(root, dataset.get('ann_file'))
    if not path.is_file():
        raise FileNotFoundError(
            f'{place}: there is no {path}. '
            + REMEDY.format(place=place, key='ann_file')
        )
    prefix = (dataset.get('data_prefix') or {}).get('sub_data_root')
    inside = _under(root, prefix)
    names = path.read_text().split('\n')
    names = [name.strip() for name in names if name.strip()]
    texts = []
    for key, default, suffix in (
        ('img_subdir', 'JPEGImages', '.jpg'),
        ('ann_subdir', 'Annotations', '.xml'),
    ):
        folder = inside / dataset.get(key, default)
        missing = [n for n in names if not (folder / f'{n}{suffix}').is_file()]
        if missing:
            raise FileNotFoundError(
                f'{place}: {len(missing)} of {len(names)} images of {path} '
                f'have no file in {folder}: {_some(missing)}'
            )
        if suffix == '.xml':
            texts = [(folder / f'{n}.xml').read_text() for n in names]
    found = {name for text in texts for name in OBJECT.findall(text)}
    absent = [name for name in classes or () if name not in found]
    strange = sorted(found - set(classes or ()))
    # one alone is a class that happens not to occur, or is not wanted
    if absent and strange:
        raise ValueError(
            f'{place}: no object of {path} is of the class {_some(absent)}, '
            f'but there are objects of {_some(strange)}: set '
            'metainfo.classes to their names'
        )


def _check_classification(cfg: Config) -> None:
    head = (cfg.get('model') or {}).get('head')
    number = head.get('num_classes') if isinstance(head, dict) else None
    number = number if isinstance(number, int) else None
    folders: dict[str, list[str]] = {}
    for name in LOADERS:
        loader = cfg.get(name) or {}
        for place, dataset in _datasets(loader.get('dataset'), name):
            kind = dataset_class(dataset.get('type'), 'mmpretrain')
            if not _is_list_or_folder(kind):
                continue
            texts = [dataset.get(k) for k in ('data_root', 'ann_file')]
            if any('://' in str(text) for text in texts):
                continue
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                built = DATASETS.build(
                    {**dataset, 'pipeline': [], 'lazy_init': True}
                )
            if '://' in str(built.img_prefix):
                continue
            if built.ann_file:
                allowed = [
                    transform.get('max_broken', 0)  # of LoadImage
                    for transform in dataset.get('pipeline') or []
                    if isinstance(transform, dict)
                ]
                _check_list(place, built, number, max(allowed, default=0))
            elif built.with_label and number is not None:
                folders[place] = _class_folders(place, built, number)
    check_class_lists(folders)


def _is_list_or_folder(kind: type | None) -> bool:
    """Whether a data set reads its images as ``CustomDataset`` does."""
    from mmpretrain.datasets import CustomDataset

    return (
        kind is not None
        and issubclass(kind, CustomDataset)
        and kind.load_data_list is CustomDataset.load_data_list
    )


def _class_folders(place: str, dataset, number: int) -> list[str]:
    """Return the folders that a data set numbers as classes."""
    folder = Path(dataset.img_prefix)
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{place}: there is no folder {folder.absolute()}. '
            + REMEDY.format(place=place, key='data_root')
        )
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir())
    if len(names) > number:
        raise ValueError(
            f'{place}: {folder} has {len(names)} class folders, but '
            f'model.head.num_classes={number}'
        )
    return names


def _check_list(place: str, dataset, number: int | None, allowed: int) -> None:
    """Check every line of a list: its form, its label and its file.

    Args:
        place: of the data set in the config.
        dataset: built, but for the list.
        number: of classes of the head, if there is one.
        allowed: how many files may be missing.
    """
    path = Path(dataset.ann_file)
    if not path.is_file():
        raise FileNotFoundError(
            f'{place}: there is no list {path}. Write it by '
            'tools/dataset_converters/image_lists.py, or say where it is by '
            f'--cfg-options {place}.ann_file=...'
        )
    images = []
    with path.open() as file:
        for line, text in enumerate(file, 1):
            image = text.rstrip('\r\n')
            if dataset.with_label:
                image, _, label = image.strip().rpartition(' ')
                if not image:
                    raise ValueError(
                        f'{place}: {path}, line {line}: {text.strip()!r} is '
                        'not an image and its label, separated by a blank'
                    )
                _check_label(f'{place}: {path}, line {line}', label, number)
            images.append(image)
    if not images:
        raise ValueError(f'{place}: {path} lists no image')
    missing = _missing(Path(dataset.img_prefix), images)
    if len(missing) > allowed:
        raise FileNotFoundError(
            f'{place}: {len(missing)} of {len(images)} images of {path} are '
            f'not in {dataset.img_prefix}: '
            + _some([f'{images[i]} (line {i + 1})' for i in missing])
            + '. '
            + REMEDY.format(place=place, key='data_prefix')
        )


def _check_label(where: str, label: str, number: int | None) -> None:
    try:
        value = int(label)
    except ValueError:
        raise ValueError(
            f'{where}: the label {label!r} is no integer; expected an image '
            'and its class index, separated by a blank'
        ) from None
    if value < 0 or (number is not None and value >= number):
        raise ValueError(
            f'{where}: label {value}, but model.head.num_classes={number}: '
            'labels count from 0. Write the list anew, or set '
            'model.head.num_classes'
            if number is not None
            else f'{where}: label {value} is negative'
        )


def _missing(folder: Path, images: Sequence[str]) -> list[int]:
    """Return the indices of the images that have no file below a folder.

    A folder of which many images are listed is read once.
    """
    by_folder: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        by_folder.setdefault(os.path.dirname(image), []).append(index)
    missing = []
    for name, indices in by_folder.items():
        inside = os.path.join(folder, name)
        if len(indices) < SINGLY:
            missing += [
                index
                for index in indices
                if not os.path.isfile(os.path.join(folder, images[index]))
            ]
            continue
        try:
            found = set(os.listdir(inside))
        except (FileNotFoundError, NotADirectoryError):
            found = set()
        missing += [
            index
            for index in indices
            if os.path.basename(images[index]) not in found
        ]
    return sorted(missing)


def _check_masks(place: str, dataset: dict) -> None:
    with DefaultScope.overwrite_default_scope('mmseg'):
        built = DATASETS.build(
            {**dataset, 'pipeline': [], 'serialize_data': False}
        )
    items = built.data_list
    if not items:
        raise FileNotFoundError(
            f'{place}: no image that ends with {built.img_suffix} in '
            f'{built.data_prefix.get("img_path")}'
        )
    for key, what in (('img_path', 'images'), ('seg_map_path', 'masks')):
        paths = [item[key] for item in items if item.get(key)]
        missing = [path for path in paths if not Path(path).is_file()]
        if missing:
            raise FileNotFoundError(
                f'{place}: {len(missing)} of {len(paths)} {what} are '
                f'missing: {_some(missing)}'
            )
