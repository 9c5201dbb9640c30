"""What does not fit together is found before anything is trained."""

import copy
import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmssd.apis.annotations import check_annotations
from mmssd.apis.config import register_modules


def config(scope, dataset, **model):
    pytest.importorskip(scope)
    register_modules(scope)
    loader = dict(batch_size=1, dataset=dataset)
    return Config(
        dict(default_scope=scope, model=model, train_dataloader=loader)
    )


@pytest.fixture
def coco(tmp_path):
    (tmp_path / 'images').mkdir()
    for name in 'ab':
        (tmp_path / f'images/{name}.jpg').touch()
    content = dict(
        images=[dict(id=i, file_name=f'{n}.jpg') for i, n in enumerate('ab')],
        annotations=[],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )
    (tmp_path / 'boxes.json').write_text(json.dumps(content))
    return dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='boxes.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('dog', 'cat')),
    )


def failure(kind, *args, **model):
    with pytest.raises(kind) as info:
        check_annotations(config(*args, **model))
    return str(info.value)


HEAD = dict(bbox_head=dict(num_classes=2))


def test_coco(coco, tmp_path):
    check_annotations(config('mmdet', coco, roi_head=HEAD))
    one = dict(coco, metainfo=dict(classes=('cat',)))
    check_annotations(config('mmdet', one))  # some of the classes
    said = failure(ValueError, 'mmdet', one, roi_head=HEAD)
    assert 'model.roi_head.bbox_head.num_classes=2' in said
    assert 'train_dataloader.dataset has 1 classes: cat' in said
    other = dict(coco, metainfo=dict(classes=('Cat', 'dog')))
    said = failure(ValueError, 'mmdet', other)
    assert 'Cat of its 2 classes are not among those of' in said
    assert 'boxes.json: cat, dog' in said
    without = {k: v for k, v in coco.items() if k != 'metainfo'}
    said = failure(ValueError, 'mmdet', without)  # the 80 of COCO
    assert 'person, bicycle, car, motorcycle, airplane and 73 more' in said
    (tmp_path / 'images/b.jpg').unlink()
    said = failure(FileNotFoundError, 'mmdet', coco)
    assert '1 of 2 images are not in' in said and 'b.jpg' in said
    assert '--cfg-options train_dataloader.dataset.data_prefix.img' in said
    said = failure(FileNotFoundError, 'mmdet', dict(coco, ann_file='x.json'))
    assert 'there is no' in said and 'x.json' in said
    (tmp_path / 'boxes.json').write_text('{"images": []}')
    said = failure(ValueError, 'mmdet', coco)
    assert 'has no annotations, categories' in said


def test_only_the_first_process_looks(coco, monkeypatch):
    monkeypatch.setenv('RANK', '3')
    check_annotations(config('mmdet', dict(coco, ann_file='x.json')))


def test_data_sets_inside_others(coco):
    inside = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='ConcatDataset',
            datasets=[coco, dict(copy.deepcopy(coco), ann_file='x.json')],
        ),
    )
    said = failure(FileNotFoundError, 'mmdet', inside)
    place = 'train_dataloader.dataset.dataset.datasets.1'
    assert said.startswith(f'{place}: there is no')
    assert f'--cfg-options {place}.ann_file=' in said


def test_voc(tmp_path):
    for folder in ('Main', 'Annotations', 'JPEGImages'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'Main/train.txt').write_text('a\n')
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(
        '<annotation><object> <name>person</name><part><name>head</name>'
        '</part></object><object><name>cat</name></object></annotation>'
    )
    dataset = dict(
        type='XMLDataset',
        data_root=str(tmp_path),
        ann_file='Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=('person', 'cat')),
    )
    said = failure(FileNotFoundError, 'mmdet', dataset)
    assert '1 of 1 images' in said and 'JPEGImages: a' in said
    (tmp_path / 'JPEGImages/a.jpg').touch()
    check_annotations(config('mmdet', dataset))
    # the part of an object is none; a class may not occur, or be left out
    for classes in (('person',), ('person', 'cat', 'dog')):
        dataset['metainfo'] = dict(classes=classes)
        check_annotations(config('mmdet', dataset))
    dataset['metainfo'] = dict(classes=('Person', 'cat'))
    said = failure(ValueError, 'mmdet', dataset)
    assert 'of the class Person, but there are objects of person' in said
    path.unlink()
    assert 'Annotations: a' in failure(FileNotFoundError, 'mmdet', dataset)
    dataset['ann_file'] = 'Main/val.txt'
    assert 'Main/val.txt' in failure(FileNotFoundError, 'mmdet', dataset)


def test_masks(tmp_path):
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    mask = Image.fromarray(np.zeros((2, 2), np.uint8))
    mask.save(tmp_path / 'masks/a.png')
    for name in 'ab':
        mask.save(tmp_path / f'images/{name}.jpg')
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('sky', 'road')),
    )
    said = failure(FileNotFoundError, 'mmseg', dataset)
    assert '1 of 2 masks are missing' in said and 'masks/b.png' in said
    mask.save(tmp_path / 'masks/b.png')
    check_annotations(config('mmseg', dataset))
    said = failure(
        ValueError, 'mmseg', dataset, decode_head=dict(num_classes=3)
    )
    assert 'model.decode_head.num_classes=3' in said
    said = failure(
        FileNotFoundError, 'mmseg', dict(dataset, img_suffix='.tif')
    )
    assert 'no image that ends with .tif' in said
    (tmp_path / 'list.txt').write_text('a\nc\n')
    listed = dict(dataset, ann_file='list.txt')
    said = failure(FileNotFoundError, 'mmseg', listed)
    assert '1 of 2 images are missing' in said and 'images/c.jpg' in said
