"""The suite of small sets: students arrive, classes fit, runs start."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmssd.apis.config import load_config
from mmssd.apis.suite_tasks import SUITES
from mmssd.apis.suites import Suite
from mmssd.apis.transfer import prove_initialisation
from mmssd.datasets.small_sets import make_small_sets
from mmssd.evaluation.from_config import labelled_sets

FOLDER = Path(__file__).resolve().parents[2] / 'configs/transfer/small'
STUDENTS = ('resnet18', 'resnet18w4', 'mobilenet-v3-large', 'efficientnet-b0')
DENSE = sorted(p for p in FOLDER.glob('*.py') if 'probe_' not in p.stem)
SMALL = 'resnet18w4'


def ids(path):
    return path.stem


def student_file(folder, config):
    """A checkpoint of the backbone of a config, as a run leaves it."""
    backbone = dict(config.model.backbone)
    for key in ('init_cfg', 'norm_eval', 'strides', 'dilations'):
        backbone.pop(key, None)
    backbone.pop('contract_dilation', None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(backbone)
    state = {f'backbone.{k}': v for k, v in network.state_dict().items()}
    text = f"default_scope = 'mmpretrain'\nmodel = dict(backbone={backbone})\n"
    path = folder / 'student.pth'
    torch.save(dict(meta=dict(cfg=text), state_dict=state), path)
    return str(path)


@pytest.mark.parametrize('student', STUDENTS)
def test_every_student_has_every_task(student, tmp_path):
    suite = Suite(SUITES['small'], {'random': None}, tmp_path, student)
    assert len(suite.cells()) == 7
    assert len(list(FOLDER.glob('*.py'))) == 5 * len(STUDENTS)


@pytest.mark.parametrize(
    'path',
    [
        path
        if SMALL in path.stem
        else pytest.param(path, marks=pytest.mark.slow)
        for path in DENSE
    ],
    ids=ids,
)
def test_the_student_arrives(path, tmp_path):
    config = load_config(path)
    pytest.importorskip(config.default_scope)
    config.model.backbone.init_cfg.checkpoint = student_file(tmp_path, config)
    statement = prove_initialisation(config)
    assert 'features equal to those of the pretrained network' in statement


def test_classes_and_sets():
    for name, test in (('cifar10', 'test'), ('tiny-imagenet-100', 'val')):
        config = load_config(FOLDER / f'probe_resnet18_{name}.py')
        sets = labelled_sets(config)
        assert sets['bank'].data_prefix == 'train'
        assert sets['query'].data_prefix == test
        assert sets['bank'].data_root == f'data/small/{name}'
        assert config.model.backbone.init_cfg is None
    boxes = load_config(
        FOLDER / 'faster-rcnn_resnet18-fpn_1xb8-1ki_kangaroo-raccoon.py'
    )
    assert boxes.model.roi_head.bbox_head.num_classes == 2
    for loader in (boxes.train_dataloader, boxes.val_dataloader):
        assert loader.dataset.metainfo.classes == ('kangaroo', 'raccoon')
        assert loader.dataset.data_prefix.img == 'images/'
    streets = load_config(FOLDER / 'fcn_resnet18_1xb8-2ki_camvid.py')
    assert streets.model.decode_head.num_classes == 11
    assert streets.model.auxiliary_head.num_classes == 11
    assert len(streets.train_dataloader.dataset.metainfo.classes) == 11
    masks = load_config(
        FOLDER / 'mask-rcnn_resnet18-fpn_1xb4-1ki_coco-mini.py'
    )
    scales = {
        loader.dataset.pipeline[index].scale
        for loader, index in (
            (masks.train_dataloader, 2),
            (masks.val_dataloader, 1),
        )
    }
    assert scales == {(667, 400)}
    assert masks.val_evaluator.ann_file.startswith('data/small/coco-mini/')
    for config in (boxes, masks, streets):
        assert config.train_cfg.max_iters == config.max_iters
        assert config.default_hooks.checkpoint.interval == 500


def draw_small_sets(source):
    """What the converter takes, in the layouts that it takes."""
    random = np.random.RandomState(0)

    def image(path, size=(64, 48)):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.randint(0, 256, (*size[::-1], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)

    for name, split in (('cifar10', 'test'), ('tinyimagenet100', 'val')):
        image(source / 'x.jpg', (32, 32))
        data = np.frombuffer((source / 'x.jpg').read_bytes(), np.uint8)
        arrays = dict(classes=np.array(['a', 'b']))
        for part, count in (('train', 48), (split, 4)):
            arrays[f'{part}_blob'] = np.tile(data, count)
            arrays[f'{part}_offsets'] = len(data) * np.arange(count + 1)
            arrays[f'{part}_labels'] = np.arange(count) % 2
        np.savez(source / f'{name}_jpeg.npz', **arrays)

    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    coco = source / 'coco_mini'
    for split in ('train2017', 'val2017'):
        boxes = []
        for index in range(4):
            image(coco / split / f'{index}.jpg')
            square = [8, 8, 40, 8, 40, 40, 8, 40]
            boxes.append(
                dict(
                    id=index + 1,
                    image_id=index,
                    category_id=1 + index,
                    bbox=[8, 8, 32, 32],
                    area=1024,
                    segmentation=[square],
                    iscrowd=0,
                )
            )
        content = dict(
            images=[
                dict(id=i, file_name=f'{i}.jpg', width=64, height=48)
                for i in range(4)
            ],
            annotations=boxes,
            categories=[dict(id=i + 1, name=n) for i, n in enumerate(names)],
        )
        path = coco / f'annotations/instances_{split}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))

    camvid = source / 'camvid'
    for split in ('train', 'val', 'test'):
        (camvid / f'{split}annot').mkdir(parents=True)
        for index in range(4):
            image(camvid / split / f'{index}.jpg')
            mask = random.randint(0, 12, (48, 64)).astype(np.uint8)
            Image.fromarray(mask).save(camvid / f'{split}annot/{index}.png')
    classes = load_config(FOLDER / 'fcn_resnet18_1xb8-2ki_camvid.py').classes
    (camvid / 'classes.txt').write_text('\n'.join((*classes, 'void')))

    voc = source / 'kangaroo_raccoon_voc'
    (voc / 'Annotations').mkdir(parents=True)
    (voc / 'ImageSets/Main').mkdir(parents=True)
    for index in range(8):
        image(voc / f'JPEGImages/{index}.jpg')
        kind = ('kangaroo', 'raccoon')[index % 2]
        (voc / f'Annotations/{index}.xml').write_text(
            f'<annotation><object><name>{kind}</name><bndbox><xmin>9</xmin>'
            '<ymin>9</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>'
            '</annotation>'
        )
    for split, numbers in (('trainval', '0123'), ('test', '4567')):
        path = voc / f'ImageSets/Main/{split}.txt'
        path.write_text('\n'.join(numbers))


@pytest.mark.slow
def test_the_suite_on_miniature_sets(tmp_path):
    for scope in ('mmdet', 'mmseg'):
        pytest.importorskip(scope)
    source = tmp_path / 'source'
    source.mkdir()
    draw_small_sets(source)
    make_small_sets(source, tmp_path / 'small', say=lambda text: None)
    config = load_config(FOLDER / f'probe_{SMALL}_cifar10.py')
    suite = Suite(
        SUITES['small'],
        {'oss': Path(student_file(tmp_path, config))},
        tmp_path / 'work',
        SMALL,
        options=(
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.logger.interval=1',
            'train_dataloader.batch_size=2',
            'train_dataloader.num_workers=0',
            'val_dataloader.num_workers=0',
        ),
        data=tmp_path / 'small',
        say=lambda text: None,
    )
    assert suite.run(), suite.failed
    (row,) = suite.table()
    for column in suite.columns():
        assert 0 <= row[column]['mean'] <= 100, column
    assert len(row['initialisations']) == 7
