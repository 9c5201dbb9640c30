"""Annotations of dense tasks, looked through before anything is trained.

A detector whose classes are called otherwise in the annotations trains
without a single box and without a word; a missing image ends a run whenever
its turn comes. Both are found here at once.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmssd.datasets.coco_subsets import check_images

from .config import dataset_class

LOADERS = ('train_dataloader', 'val_dataloader')
HEADS = ('roi_head.bbox_head', 'bbox_head', 'decode_head')
LISTED = 5  # names in an error
OBJECT = re.compile(r'<object>.*?<name>\s*(.*?)\s*</name>', re.DOTALL)
REMEDY = 'Say where they are by --cfg-options {place}.{key}=...'


def check_annotations(cfg: Config) -> None:
    """Refuse annotations that do not fit images, classes or network.

    Looks at data sets of mmdet in COCO's and VOC's formats, and at those of
    mmseg, of the loaders for training and validation. Of several processes
    the first one does so.

    Args:
        cfg (Config): with model and loaders; other scopes are left alone.

    Raises:
        FileNotFoundError: naming images or masks that are missing.
        ValueError: if the annotations lack classes of the config, or its
            heads are for another number of classes.
    """
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg') or os.environ.get('RANK', '0') != '0':
        return
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
