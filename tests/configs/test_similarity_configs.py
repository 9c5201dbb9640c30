"""SEED, CompRess and what is compared with them: every config steps."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmssd.apis.config import load_config

ROOT = Path(__file__).resolve().parents[2]
LEAVES = sorted(
    path
    for name in ('seed', 'compress', 'baselines')
    for path in (ROOT / 'configs' / name).glob('*.py')
)
COMPARED = ('crd', 'reg', 'reg-bn')  # among the baselines
SIMILARITY = [
    path
    for path in LEAVES
    if (
        path.parent.name in ('seed', 'compress')
        and not path.stem.startswith('seed-kmeans')
    )
    or path.stem.split('_')[0] in COMPARED
]
SIMILARITY_FAMILY = (
    'seed_resnet18-resnet50_8xb32-coslr-200e_in1k',
    'compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k',
)
CLUSTERS = [
    path for path in LEAVES if path.stem.startswith(('cc_', 'seed-kmeans'))
]


def ids(path):
    return path.stem


@pytest.mark.parametrize(
    'path',
    [
        path
        if path.stem in SIMILARITY_FAMILY
        else pytest.param(path, marks=pytest.mark.slow)
        for path in SIMILARITY
    ],
    ids=ids,
)
def test_similarity_config_takes_a_step(path):
    config = load_config(path)
    model_config = config.model
    # a run of ours, or a published file
    folder = model_config.teacher.checkpoint.split('/')[0]
    published = 'layout' in model_config.teacher
    assert folder == ('checkpoints' if published else 'work_dirs')
    model_config.teacher.checkpoint = 'random'
    heads = {k: h for k, h in model_config.heads.items() if h is not None}
    wanted = {k: h.get('queue_length') for k, h in heads.items()}
    if 'queue' not in path.stem and 'similarity' in heads:
        length = 128_000 if 'compress' in path.stem else 65_536
        assert wanted['similarity'] == length
    for head in heads.values():
        if 'queue_length' in head:
            head.queue_length = 16
        if head.type == 'ContrastiveRepresentationHead':
            assert head.num_images == 1_281_167
            head.update(num_images=8, num_noise=4)
    if 'clustering' in heads:
        heads['clustering'].freeze_prototypes = 0
        heads['clustering'].queue_start = 0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_config)
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        for scheduler in config.param_scheduler:
            PARAM_SCHEDULERS.build(
                {
                    k: v
                    for k, v in scheduler.items()
                    if k != 'convert_to_iter_based'
                }
                | dict(optimizer=optim_wrapper)
            )
    model._check_use()  # no network is there for nothing
    views = config.train_dataloader.dataset.pipeline[1].num_views
    views = views if isinstance(views, list) else [views]
    inputs = [
        torch.randn(2, 3, size, size)
        for number, size in zip(views, (64, 32), strict=False)
        for _ in range(number)
    ]
    samples = [DataSample(metainfo=dict(sample_idx=i)) for i in (3, 5)]
    before = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.train()
    logs = model.train_step(
        dict(inputs=inputs, data_samples=samples), optim_wrapper
    )
    assert all(torch.isfinite(value).all() for value in logs.values())
    assert {key.split('.')[0] for key in logs} == {'loss', *heads}
    assert ('similarity.loss_small' in logs) == ('patches' in path.stem)
    moved = {
        k
        for k, v in model.state_dict().items()
        if not torch.equal(before[k], v)
    }
    assert any(key.startswith('backbone.') for key in moved)
    assert not any(key.startswith('teacher.') for key in moved)
    if 'similarity' in heads:
        assert 'heads.similarity.queue.features' in moved
        wide = model_config.heads.similarity.get('student_queue')
        own = 'heads.similarity.student_queue.features'
        assert (own in moved) == (wide in ('student', 'momentum'))


def test_the_deeper_projector_differs_by_its_depth_alone():
    """Three linear layers, ReLU, no norm, started as the two of SEED."""
    depths = {}
    for name, layers in (('seed', 2), ('seed-head-3', 3)):
        config = load_config(
            ROOT / f'configs/seed/{name}_resnet18-resnet50_8xb32-coslr-'
            '200e_in1k.py'
        )
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            neck = MODELS.build(config.model.neck)
        before = [p.clone() for p in neck.parameters()]
        neck.init_weights()
        assert all(map(torch.equal, before, neck.parameters()))
        depths[layers] = [
            (type(m), tuple(getattr(m, 'weight', torch.empty(0)).shape))
            for m in neck.mlp
        ]
    first, relu, last = depths[2]
    assert first[1] == (512, 512) and last[1] == (128, 512)
    assert depths[3] == [first, relu, first, relu, last]


@pytest.mark.slow
@pytest.mark.parametrize('path', CLUSTERS, ids=ids)
def test_cluster_config_takes_a_step(path):
    config = load_config(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(config.model, data_preprocessor=config.data_preprocessor)
        )
        optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        samples = [DataSample().set_gt_label(label) for label in (3, 1999)]
        images = [torch.zeros(3, 64, 64, dtype=torch.uint8) for _ in samples]
        logs = model.train_step(
            dict(inputs=images, data_samples=samples), optim_wrapper
        )
    assert torch.isfinite(logs['loss'])
    for split in ('train', 'val'):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.ann_file.endswith(f'_k2000/{split}.txt')


@pytest.mark.parametrize('path', SIMILARITY, ids=ids)
def test_resnets_start_as_those_of_torchvision(path):
    """mmpretrain would start the last batch norm of each block at zero."""
    model = load_config(path).model
    for network in (model, model.teacher):
        # a published file overwrites what the initialisation leaves
        if network.backbone.type == 'ResNet' and 'layout' not in network:
            assert network.backbone.zero_init_residual is False
