"""What does not fit together is found before anything is trained."""

import copy
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmssd.apis.annotations import check_annotations
from mmssd.apis.config import register_modules
from mmssd.evaluation.features import check_classes


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


# --- lists and folders of mmpretrain ----------------------------------------


@pytest.fixture
def listed(tmp_path):
    """A list of 40 images in one folder and 2 in another."""
    names = [f'n1/{i}.jpg' for i in range(40)] + ['n2/a.jpg', 'n2/b c.jpg']
    for name in names:
        path = tmp_path / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path = tmp_path / 'meta/train_1percent.txt'
    path.parent.mkdir()
    path.write_text(''.join(f'{n} {n[1]}\n' for n in names))
    return dict(
        type='ImageNet',
        data_root=str(tmp_path),
        split='train',
        ann_file='meta/train_1percent.txt',
        pipeline=[dict(type='LoadImageFromFile')],
    )


THREE = dict(head=dict(num_classes=3))


def test_lists_of_images(listed, tmp_path):
    check_annotations(config('mmpretrain', listed, **THREE))
    path = tmp_path / 'meta/train_1percent.txt'
    lines = path.read_text().splitlines()

    def said(kind, number=None, line=None, dataset=listed, **model):
        changed = list(lines)
        if line is not None:
            changed[number - 1] = line
        path.write_text('\n'.join(changed))
        return failure(kind, 'mmpretrain', dataset, **(model or THREE))

    text = said(ValueError, 7, 'n1/6.jpg 5000')
    assert text.startswith('train_dataloader.dataset: ')
    assert 'train_1percent.txt, line 7: label 5000' in text
    assert 'model.head.num_classes=3' in text
    assert 'line 1: label -1' in said(ValueError, 1, 'n1/0.jpg -1')
    assert "line 2: the label 'one'" in said(ValueError, 2, 'n1/1.jpg one')
    assert "line 3: '5' is not an image" in said(ValueError, 3, '5')
    # of a folder with many images, and of one with few
    text = said(FileNotFoundError, 40, 'n1/x.jpg 1')
    assert '1 of 42 images of' in text and 'n1/x.jpg (line 40)' in text
    assert '--cfg-options train_dataloader.dataset.data_prefix=' in text
    text = said(FileNotFoundError, 42, 'n2/x y.jpg 2')
    assert 'n2/x y.jpg (line 42)' in text
    elsewhere = dict(listed, data_prefix='nowhere')
    text = said(FileNotFoundError, dataset=elsewhere)
    assert '42 of 42 images of' in text and ' and 37 more' in text
    text = said(FileNotFoundError, dataset=dict(listed, ann_file='meta/x.txt'))
    assert 'meta/x.txt' in text and 'image_lists.py' in text
    # a pretraining has no classes, and may pass over broken files
    path.write_text('\n'.join([*lines[1:], 'n1/x.jpg 5000']))
    some = [dict(type='LoadImage', max_broken=1)]
    check_annotations(config('mmpretrain', dict(listed, pipeline=some)))
    none = [dict(type='LoadImage')]
    failure(FileNotFoundError, 'mmpretrain', dict(listed, pipeline=none))
    path.write_text('')
    assert 'lists no image' in failure(ValueError, 'mmpretrain', listed)


def test_a_list_without_labels(listed, tmp_path):
    path = tmp_path / 'meta/train_1percent.txt'
    path.write_text('n1/0.jpg\nn2/b c.jpg\n')
    listed['with_label'] = False
    check_annotations(config('mmpretrain', listed))
    path.write_text('n1/0.jpg\nn2/b d.jpg\n')
    said = failure(FileNotFoundError, 'mmpretrain', listed)
    assert 'n2/b d.jpg (line 2)' in said


def test_a_folder_is_read_once(listed, monkeypatch):
    """Of 40 images in one folder none is looked for by itself."""
    asked, isfile = [], os.path.isfile
    monkeypatch.setattr(
        os.path, 'isfile', lambda p: asked.append(str(p)) or isfile(p)
    )
    check_annotations(config('mmpretrain', listed, **THREE))
    assert [path[-12:] for path in asked if '/train/' in path] == [
        'ain/n2/a.jpg',
        'n/n2/b c.jpg',
    ]


def test_folders_that_number_classes_differently(tmp_path):
    """The layout of Places365: data_prefix train and val, no lists."""
    for name in ('train/a', 'train/b', 'train/c', 'val/b', 'val/c'):
        (tmp_path / name).mkdir(parents=True)
    sets = {
        name: dict(
            type='CustomDataset', data_root=str(tmp_path), data_prefix=name
        )
        for name in ('train', 'val')
    }
    cfg = config('mmpretrain', sets['train'], **THREE)
    check_annotations(cfg)
    cfg.val_dataloader = dict(dataset=sets['val'])
    with pytest.raises(
        ValueError,
        match=r'train_dataloader\.dataset has 3 classes, '
        r"val_dataloader\.dataset 2, .*: label 0 means 'a' in the one and 'b'",
    ):
        check_annotations(cfg)
    # said by the same function as of the sets of a probe
    with pytest.raises(ValueError) as of_sets:
        check_classes(
            dict(
                bank=SimpleNamespace(metainfo=dict(classes='abc')),
                query=SimpleNamespace(metainfo=dict(classes='bc')),
            )
        )
    with pytest.raises(ValueError) as of_folders:
        check_annotations(cfg)
    said = str(of_folders.value)
    for place, name in (('train', 'bank'), ('val', 'query')):
        said = said.replace(f'{place}_dataloader.dataset', f'the {name} set')
    assert said == str(of_sets.value)
    (tmp_path / 'val/a').mkdir()
    check_annotations(cfg)
    cfg.model.head.num_classes = 2
    with pytest.raises(ValueError, match='3 class folders, but model.head'):
        check_annotations(cfg)
    cfg.val_dataloader.dataset.data_prefix = 'test'
    cfg.model.head.num_classes = 3
    with pytest.raises(FileNotFoundError, match='no folder .*test'):
        check_annotations(cfg)
    del cfg.model['head']  # a pretraining numbers nothing
    check_annotations(cfg)
