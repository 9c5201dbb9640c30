"""A linear probe changes its head and nothing else."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import HOOKS, MODELS
from mmpretrain.structures import DataSample

from mmssd.models.necks.feature_norm_neck import FeatureNormNeck

RESNET = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)


def build(backbone=RESNET, width=32, kind='FrozenClassifier', **model):
    neck = dict(type='GlobalAveragePooling')
    config = dict(
        type=kind,
        backbone=backbone,
        neck=model.pop('neck', neck),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=width),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def step(model, count=2):
    optim_wrapper = build_optim_wrapper(
        model,
        dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.1)),
    )
    for _ in range(count):
        samples = [DataSample().set_gt_label(i % 3) for i in range(6)]
        data = dict(inputs=list(torch.randn(6, 3, 32, 32)))
        model.train_step(dict(data, data_samples=samples), optim_wrapper)


@pytest.mark.parametrize(
    ('backbone', 'width'),
    [
        (RESNET, 32),
        (dict(type='MobileNetV2', widen_factor=0.25), 1280),
        (
            dict(
                type='TIMMBackbone',
                model_name='resnet10t',
                features_only=True,
                drop_rate=0.5,
            ),
            512,
        ),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_only_the_head_is_trained(backbone, width):
    model = build(backbone, width)
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert not any(m.training for m in model.backbone.modules())
    assert model.head.training
    step(model)
    for key, value in model.state_dict().items():
        same = torch.equal(value, before[key])
        assert same == key.startswith('backbone.'), key
    assert all(p.grad is None for p in model.backbone.parameters())


def test_features_in_training_are_those_of_the_test():
    model = build()
    images = torch.randn(4, 3, 32, 32)
    model.train()
    (trained,) = model.extract_feat(images)
    model.train(False)
    (tested,) = model.extract_feat(images)
    assert torch.equal(trained, tested)
    assert model.extract_feat(images, 'pre_logits').shape == (4, 32)
    assert model.extract_feat(images, 'backbone')[-1].shape[1] == 32
    with pytest.raises(ValueError, match="stage='head'"):
        model.extract_feat(images, 'head')


def runner_of(model):
    return SimpleNamespace(model=model, logger=MMLogger.get_instance('t'))


def test_hook_sees_what_a_plain_classifier_does_to_its_backbone():
    """frozen parameters do not keep running statistics where they were."""
    plain = build(kind='ImageClassifier')
    plain.backbone.requires_grad_(False)
    plain.train()
    hook = HOOKS.build(dict(type='FrozenBackboneHook'))
    hook.before_train(runner_of(plain))
    step(plain, 1)
    with pytest.raises(RuntimeError) as info:
        hook.after_train_epoch(runner_of(plain))
    assert '60 tensors of the frozen backbone changed' in str(info.value)
    assert 'bn1.running_mean' in str(info.value)


def test_hook_is_content_with_a_frozen_one():
    model = build()
    model.train()
    hook = HOOKS.build(dict(type='FrozenBackboneHook'))
    hook.before_train(runner_of(model))
    step(model)
    hook.after_train_epoch(runner_of(model))
    hook.after_train(runner_of(model))


# --- normalised features --------------------------------------------------


def test_normalised_features():
    features = torch.randn(50, 4) * torch.tensor([1.0, 2, 3, 4]) + 1
    neck = FeatureNormNeck(4, eps=1e-5)
    with pytest.raises(RuntimeError, match='no statistics'):
        neck(features)
    with pytest.raises(ValueError, match=r'\(50, 3\).*\(N, 4\)'):
        neck.measure(features[:, :3])
    neck.measure(features)
    unit = F.normalize(features.double(), dim=1)
    wanted = (unit - unit.mean(0)) / (unit.var(0, correction=0) + 1e-5).sqrt()
    (got,) = neck(
        (torch.zeros(1), features[:, :, None, None].repeat(1, 1, 2, 2))
    )
    torch.testing.assert_close(got, wanted.float(), atol=1e-5, rtol=1e-5)
    assert got.mean(0).abs().max() < 1e-5
    assert not list(neck.parameters())
    again = FeatureNormNeck(4)
    again.load_state_dict(neck.state_dict())
    torch.testing.assert_close(again(features)[0], got)


class Images(torch.utils.data.Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randint(
            0, 256, (10, 3, 32, 32), generator=generator, dtype=torch.uint8
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(inputs=self.images[index], data_samples=DataSample())


def test_statistics_are_measured_once(monkeypatch):
    from mmpretrain.registry import DATASETS

    monkeypatch.setattr(DATASETS, 'build', lambda config: Images())
    model = build(neck=dict(type='FeatureNormNeck', num_features=32))
    model.data_preprocessor.mean = None
    hook = HOOKS.build(
        dict(type='FeatureStatisticsHook', dataset=dict(), batch_size=4)
    )
    hook.before_train(runner_of(model))
    assert model.neck.measured
    model.train(False)
    data = model.data_preprocessor(dict(inputs=list(Images().images)))
    maps = model.backbone(data['inputs'])[-1]
    unit = F.normalize(maps.mean((2, 3)), dim=1)
    torch.testing.assert_close(model.neck.mean, unit.mean(0))
    model.neck.mean.fill_(7)
    hook.before_train(runner_of(model))
    assert (model.neck.mean == 7).all()
