"""Visual Priors: its configs train a step, on the data they name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image

from mmssd.apis.config import load_config
from mmssd.apis.tta import ten_crop_pipeline

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'visual_priors'
LABELLED = sorted(
    path
    for path in FOLDER.glob('*.py')
    if path.stem.startswith(('supervised', 'finetune', 'linear', 'ofd'))
)
FAMILY = 'ofd_resnet50-resnet50_8xb32-steplr-100e_vipriors'
LAST = 'ofd_resnext101-resnext101_8xb32-steplr-100e_vipriors-trainval-448px-ls'


def train_pipelines(config):
    dataset = config.train_dataloader.dataset
    return [part.pipeline for part in dataset.get('datasets', [dataset])]


@pytest.mark.parametrize(
    'path',
    [
        path
        if path.stem == FAMILY
        else pytest.param(path, marks=pytest.mark.slow)
        for path in LABELLED
    ],
    ids=lambda path: path.stem,
)
def test_config_takes_a_step(path, tmp_path):
    init_default_scope('mmpretrain')
    config = load_config(path)
    phase_1 = MODELS.build({**config.model.backbone, 'init_cfg': None})
    file = tmp_path / 'epoch_800.pth'
    weights = phase_1.state_dict(prefix='backbone.')
    torch.save(dict(state_dict=weights), file)
    if 'init_cfg' in config.model.backbone:
        config.model.backbone.init_cfg.checkpoint = str(file)
    distilled = 'teacher' in config.model
    if distilled:
        config.model.teacher.checkpoint = str(file)
        config.model.distill_heads.overhaul.start = 0
    model = MODELS.build(config.model)
    model.init_weights()
    if 'init_cfg' in config.model.backbone:
        for key, value in model.backbone.state_dict().items():
            assert torch.equal(value, weights[f'backbone.{key}']), key
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    model.train()
    logs = model.train_step(
        dict(
            inputs=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
            data_samples=[DataSample().set_gt_label(i) for i in (0, 999)],
        ),
        optim_wrapper,
    )
    assert all(torch.isfinite(value).all() for value in logs.values())
    if distilled:
        assert set(logs) == {
            'loss',
            'loss_labels',
            'overhaul.loss_overhaul',
        }
    moved = {
        k.split('.')[0]
        for k, p in model.named_parameters()
        if not torch.equal(before[k], p.detach())
    }
    expected = {'backbone', 'head'}
    if distilled:
        expected.add('distill_heads')
    elif path.stem.startswith('linear'):
        expected.remove('backbone')
    assert moved == expected


@pytest.mark.parametrize('path', LABELLED, ids=lambda path: path.stem)
def test_schedule_is_the_published_one(path):
    config = load_config(path)
    assert config.train_cfg.max_epochs == 100
    optimizer = config.optim_wrapper.optimizer
    linear = path.stem.startswith('linear')
    assert optimizer.lr == (30 if linear else 0.1)
    assert optimizer.weight_decay == (0 if linear else 1e-4)
    assert optimizer.get('nesterov', False) is not linear
    milestones = config.param_scheduler[0].milestones
    assert milestones == ([60, 80] if linear else [30, 60, 90])
    if 'teacher' in config.model:
        head = config.model.distill_heads.overhaul
        assert head.start == dict(epochs=4) and head.weight == 1e-4
        own, teacher = config.model.backbone, config.model.teacher.backbone
        assert own.depth == teacher.depth and own.type == teacher.type
        assert own.init_cfg.checkpoint == config.model.teacher.checkpoint


@pytest.mark.parametrize('path', LABELLED, ids=lambda path: path.stem)
def test_pipelines_run(path, tmp_path):
    init_default_scope('mmpretrain')
    config = load_config(path)
    size = 448 if '448px' in path.stem else 224
    file = tmp_path / 'a.png'
    pixels = np.random.randint(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    test = config.test_dataloader.dataset.pipeline
    for pipeline in [*train_pipelines(config), test]:
        compose = Compose([TRANSFORMS.build(step) for step in pipeline])
        packed = compose(dict(img_path=str(file), gt_label=3))
        assert packed['inputs'].shape == (3, size, size)
        assert packed['inputs'].dtype == torch.uint8
        assert int(packed['data_samples'].gt_label) == 3
    # short side 256 of 224, 512 of 448
    assert test[1].scale * 7 == size * 8
    crops = ten_crop_pipeline(test)
    compose = Compose([TRANSFORMS.build(step) for step in crops])
    views = compose(dict(img_path=str(file), gt_label=3))['inputs']
    assert len(views) == 10
    assert all(view.shape == (3, size, size) for view in views)
    policies = [
        step.policy
        for pipeline in train_pipelines(config)
        for step in pipeline
        if 'AutoAugment' in step.type
    ]
    known = {
        f'{LAST}-aa': ['imagenet'] * 2,
        f'{LAST}-aa-cifar': ['cifar10'] * 2,
    }
    assert policies == known.get(path.stem, [])


def test_tricks_are_cumulative():
    config = load_config(FOLDER / f'{LAST}.py')
    assert config.model.head.loss == dict(
        type='LabelSmoothLoss',
        label_smooth_val=0.1,
        num_classes=1000,
        mode='original',
    )
    loss = MODELS.build(config.model.head.loss)
    # 0.9 + 0.1 / 1000 on the label, 0.1 / 1000 on each other class
    logits = torch.zeros(1, 1000)
    logits[0, 7] = 5.0
    log = logits.log_softmax(1)[0]
    expected = -(0.9 * log[7] + 1e-4 * log.sum())
    assert loss(logits, torch.tensor([7])).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


@pytest.fixture(scope='module')
def vipriors(tmp_path_factory):
    """The layout of five classes, two images of each, nothing in them."""
    root = tmp_path_factory.mktemp('vipriors')
    for split in ('train', 'val', 'test'):
        for label in range(5):
            folder = root / split / f'n{label:08}'
            folder.mkdir(parents=True)
            for index in range(2):
                (folder / f'{index}.JPEG').touch()
    return root


@pytest.mark.parametrize('name', [FAMILY, f'{FAMILY}-trainval'])
def test_layout_of_the_data(name, vipriors):
    init_default_scope('mmpretrain')
    config = load_config(FOLDER / f'{name}.py')
    found = {}
    for loader in ('train_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        for part in dataset.get('datasets', [dataset]):
            assert part.data_root == 'data/vipriors'
            part.update(data_root=str(vipriors), serialize_data=False)
            part.metainfo = dict(classes=list('abcde'))
        dataset = DATASETS.build(dataset)
        rows = [dataset.get_data_info(i) for i in range(len(dataset))]
        folders = {
            Path(row['img_path']).relative_to(vipriors).parts[0]
            for row in rows
        }
        found[loader] = (len(rows), folders)
        for row in rows:
            wnid = Path(row['img_path']).parent.name
            assert int(wnid[1:]) == row['gt_label']
    if name.endswith('trainval'):
        assert found['train_dataloader'] == (20, {'train', 'val'})
        assert found['test_dataloader'] == (10, {'test'})
    else:
        assert found['train_dataloader'] == (10, {'train'})
        assert found['test_dataloader'] == (10, {'val'})
