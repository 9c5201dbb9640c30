"""Linear and semi-supervised recipes: numbers, data, and what is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image

from mmssd.apis.config import load_config
from mmssd.models.utils.step import pool_features

FOLDER = Path(__file__).resolve().parents[2] / 'configs/transfer'
LINEAR = sorted(FOLDER.glob('linear/*.py'))
SEMI = sorted(FOLDER.glob('semi-supervised/*.py'))
ALL = LINEAR + SEMI
# lr, epochs, milestones, gamma, weight decay; `methods` of each paper
TEN_STEPS = [*range(5, 50, 5), 60, 80]
RECIPES = {
    'oss': (0.3, 100, None, None, 1e-6),
    'seed': (30.0, 100, [60, 80], 0.1, 0),
    'disco': (30.0, 100, [60, 80], 0.1, 0),
    'disco-code': (30.0, 100, TEN_STEPS, 0.5, 0),
    'compress': (0.01, 40, [15, 30], 0.1, 1e-4),
    'visual-priors': (30.0, 100, [60, 80], 0.1, 0),
    'dino': (0.001, 100, None, None, 0),
}
SMALL = ('efficientnet', 'mobilenet')


def ids(path):
    return path.stem


@pytest.mark.parametrize(
    'path', [p for p in LINEAR if p.stem.endswith('_in1k')], ids=ids
)
def test_recipes_on_imagenet(path):
    recipe, student = path.stem.split('_')[:2]
    lr, epochs, milestones, gamma, decay = RECIPES[recipe]
    if recipe.startswith('disco') and student.startswith(SMALL):
        lr = 3.0
    config = load_config(path)
    optimizer = config.optim_wrapper.optimizer
    assert optimizer == dict(
        type='SGD', lr=lr, momentum=0.9, weight_decay=decay
    )
    assert config.train_cfg.max_epochs == epochs
    assert 8 * config.train_dataloader.batch_size == 256
    scheduler = config.param_scheduler
    if milestones is None:
        assert (scheduler.type, scheduler.T_max) == ('CosineAnnealingLR', 100)
        assert scheduler.eta_min == 0
    else:
        assert (scheduler.milestones, scheduler.gamma) == (milestones, gamma)
    kinds = {hook.type for hook in config.custom_hooks}
    assert 'FrozenBackboneHook' in kinds
    assert ('FeatureStatisticsHook' in kinds) == (recipe == 'compress')
    if recipe == 'compress':
        hook = config.custom_hooks[-1]
        assert hook.dataset.split == 'train'
        assert hook.dataset.pipeline == config.test_pipeline


def test_recipes_on_cifar():
    paper = load_config(
        FOLDER / 'linear/disco_resnet18_8xb32-steplr-100e_cifar100.py'
    )
    code = load_config(
        FOLDER / 'linear/disco-code_resnet18_8xb32-200e_cifar100.py'
    )
    assert paper.optim_wrapper.optimizer.lr == 3
    assert paper.param_scheduler.milestones == [60, 80]
    assert code.param_scheduler == []
    assert code.train_cfg.max_epochs == 200
    assert paper.model.head.num_classes == 100


@pytest.mark.parametrize(
    ('share', 'trunk', 'head', 'images'),
    [(1, 0.02, 5, 1), (10, 0.01, 0.2, 10)],
)
def test_fine_tuning_of_oss(share, trunk, head, images):
    config = load_config(
        FOLDER / f'semi-supervised/oss_resnet18_8xb32-steplr-20e_in1k-{share}'
        'percent.py'
    )
    model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rates = {
        name: group['lr']
        for group in wrapper.optimizer.param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is p for p in group['params'])
    }
    assert rates['head.fc.weight'] == pytest.approx(head)
    assert rates['head.fc.bias'] == pytest.approx(head)
    others = {v for k, v in rates.items() if k.startswith('backbone.')}
    assert others == {trunk}
    assert len(rates) == len(list(model.parameters()))
    data = config.train_dataloader.dataset
    assert data.ann_file == f'meta/train_{images}percent.txt'
    assert config.param_scheduler.milestones == [12, 16]
    assert config.param_scheduler.gamma == 0.2
    assert config.sync_bn == 'torch'


@pytest.mark.parametrize('path', ALL, ids=ids)
def test_data_sets_and_pipelines(path, tmp_path):
    """Every image comes out as 224 x 224, and as many classes as said."""
    config = load_config(path)
    pixels = np.random.randint(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    for loader in (config.train_dataloader, config.val_dataloader):
        kind = DATASETS.get(loader.dataset.type)
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
        if classes:
            assert len(classes) == config.model.head.num_classes
        results = dict(
            img_path=str(tmp_path / 'a.png'),
            img=pixels,
            img_shape=pixels.shape[:2],
            gt_label=1,
        )
        for transform in loader.dataset.pipeline:
            results = TRANSFORMS.build(transform)(results)
        assert results['inputs'].shape == (3, 224, 224)
    if 'Flowers' in loader.dataset.type:
        assert [d.type for d in config.val_evaluator] == [
            'Accuracy',
            'SingleLabelMetric',
        ]


@pytest.mark.parametrize('student', ['vit-tiny', 'xcit-tiny'])
def test_the_class_token_is_probed(student):
    """Normalised, and the same where features are cached."""
    linear = load_config(
        FOLDER / f'linear/dino_{student}_8xb32-coslr-100e_in1k.py'
    )
    probe = load_config(FOLDER / f'features/probe_{student}_in1k.py')
    linear.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(linear.model)
        cached = MODELS.build(probe.model)
    cached.backbone.load_state_dict(model.backbone.state_dict())
    model.train()  # drop path stays off
    images = torch.randn(2, 3, 224, 224)
    (token,) = model.extract_feat(images)
    assert token.shape == (2, 192) == (2, model.head.fc.in_features)
    # the norm's own weights are still 1 and 0
    torch.testing.assert_close(
        token.mean(1), torch.zeros(2), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        token.var(1, correction=0), torch.ones(2), rtol=0, atol=1e-3
    )
    with torch.no_grad():
        features = pool_features(cached.eval().extract_feat(images))
    torch.testing.assert_close(features, token)
    raw = dict(linear.model.backbone, out_type='raw')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        raw = MODELS.build(raw)
    raw.train(False)
    raw.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        (tokens,) = raw(images)
    assert tokens.shape == (2, 1 + 14 * 14, 192)
    torch.testing.assert_close(token, tokens[:, 0])


def settle(backbone):
    """Give random layers statistics under which features do not vanish."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of what it has seen
    backbone.train(True)
    with torch.no_grad():
        backbone(torch.randn(4, 3, 64, 64))
    backbone.train(False)


@pytest.mark.parametrize(
    'path',
    [
        FOLDER / 'linear/seed_resnet18_8xb32-steplr-100e_in1k.py',
        *(
            pytest.param(path, marks=pytest.mark.slow)
            for path in ALL
            if path.stem.endswith(('_in1k', '-1percent'))
        ),
    ],
    ids=ids,
)
def test_a_step(path):
    config = load_config(path)
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    settle(model.backbone)
    if hasattr(model.neck, 'measure'):
        model.neck.measure(torch.randn(8, len(model.neck.mean)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    images = list(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    logs = model.train_step(dict(inputs=images, data_samples=samples), wrapper)
    assert torch.isfinite(logs['loss'])
    moved = {
        k
        for k, v in model.state_dict().items()
        if not torch.equal(v, before[k])
    }
    frozen = config.model.type == 'FrozenClassifier'
    assert any(key.startswith('backbone.') for key in moved) != frozen
    assert {'head.fc.weight', 'head.fc.bias'} <= moved
