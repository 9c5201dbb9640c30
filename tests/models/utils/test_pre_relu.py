"""Pre-ReLU maps against blocks that are run by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.utils.pre_relu import (
    collect_pre_relu,
    pre_relu_sizes,
    pre_relu_stages,
)

SMALL = dict(stem_channels=8, base_channels=8)
RESNETS = {
    'resnet18': dict(type='ResNet', depth=18, **SMALL),
    'resnet34': dict(type='ResNet', depth=34, **SMALL),
    'resnet50': dict(type='ResNet', depth=50, **SMALL),
    'resnext50': dict(
        type='ResNeXt', depth=50, groups=4, width_per_group=2, **SMALL
    ),
    'resnext101': dict(
        type='ResNeXt', depth=101, groups=4, width_per_group=2, **SMALL
    ),
    'resnet18-checkpointing': dict(
        type='ResNet', depth=18, with_cp=True, **SMALL
    ),
}
MOBILENET = dict(type='MobileNetV2', widen_factor=0.25)
ALL = {**RESNETS, 'mobilenet-v2': MOBILENET}


def build(config, train=True):
    backbone = MODELS.build(dict(config))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            # no branch that is zero, no map that is positive throughout
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    backbone.train(train)  # returns nothing in mmpretrain
    return backbone


def norm(x, module):
    """The batch norm written out, with the statistics of the batch."""
    mean = x.mean((0, 2, 3), keepdim=True)
    var = x.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = module.weight[:, None, None], module.bias[:, None, None]
    return (x - mean) / (var + module.eps).sqrt() * scale + shift


def conv(x, module):
    return F.conv2d(
        x,
        module.weight,
        stride=module.stride,
        padding=module.padding,
        groups=module.groups,
    )


def by_hand(backbone, x):
    """Stages of a ResNet, from its weights alone."""
    x = norm(conv(x, backbone.conv1), backbone.norm1).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for name in ('layer1', 'layer2', 'layer3', 'layer4'):
        for block in getattr(backbone, name):
            out, count = x, 3 if hasattr(block, 'conv3') else 2
            for number in range(1, count + 1):
                out = conv(out, getattr(block, f'conv{number}'))
                out = norm(out, getattr(block, f'bn{number}'))
                if number < count:
                    out = out.relu()
            if block.downsample is not None:
                x = norm(conv(x, block.downsample[0]), block.downsample[1])
            before = out + x
            x = before.relu()
        maps.append(before)
    return maps, x


@pytest.mark.parametrize('name', RESNETS)
def test_resnets_equal_the_block_run_by_hand(name):
    backbone = build(RESNETS[name]).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected, end = by_hand(backbone, images)
    with collect_pre_relu(backbone) as maps:
        output = backbone(images.requires_grad_())
    assert len(maps) == 4
    for found, wanted, size in zip(maps, expected, (16, 8, 4, 2), strict=True):
        assert found.shape[2:] == (size, size)
        assert (found < 0).any() and (found > 0).any()
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output[-1], end, rtol=1e-9, atol=1e-9)
    # in place or not, the output is the ReLU of the last map
    assert torch.equal(output[-1], maps[-1].relu())


def test_mobilenet_ends_stages_without_relu():
    backbone = build(MOBILENET)
    images = torch.randn(2, 3, 64, 64)
    with collect_pre_relu(backbone) as maps:
        output = backbone(images)
    assert [m.size(2) for m in maps] == [16, 8, 4, 2]
    # the rest of the network, run from the last map
    torch.testing.assert_close(backbone.conv2(maps[-1]), output[-1])
    third = backbone.layer4(maps[1])
    torch.testing.assert_close(backbone.layer5(third), maps[2])
    assert all((m < 0).any() for m in maps)
    block = backbone.layer7[-1]
    assert not block.use_res_connect
    assert pre_relu_stages(backbone)[-1].norm is block.conv[-1].bn


@pytest.mark.parametrize('name', ALL)
def test_output_gradients_and_buffers_stay_as_without(name):
    backbone = build(ALL[name])
    other = copy.deepcopy(backbone)
    images = torch.randn(2, 3, 64, 64).requires_grad_()
    with collect_pre_relu(backbone) as maps:
        output = backbone(images)
    plain = other(images)
    assert torch.equal(output[-1], plain[-1])
    output[-1].square().sum().backward()
    plain[-1].square().sum().backward()
    for own, theirs in zip(
        backbone.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(own.grad, theirs.grad)
    for own, theirs in zip(backbone.buffers(), other.buffers(), strict=True):
        assert torch.equal(own, theirs)
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in backbone.modules()
    )
    assert len(maps) == 4


@pytest.mark.parametrize('name', ALL)
def test_gradient_of_a_map_reaches_its_stage_and_not_the_next(name):
    backbone = build(ALL[name])
    with collect_pre_relu(backbone) as maps:
        output = backbone(torch.randn(2, 3, 64, 64).requires_grad_())
    (maps[1].square().sum() + 0 * output[-1].sum()).backward()
    stages = pre_relu_stages(backbone)
    assert stages[1].norm.weight.grad.abs().sum() > 0
    assert stages[2].norm.weight.grad.abs().sum() == 0


@pytest.mark.parametrize('name', ALL)
def test_two_passes_without_gradient(name):
    """A frozen teacher: each context collects its own pass."""
    backbone = build(ALL[name], train=False)
    images = torch.randn(1, 3, 64, 64)
    results = []
    with torch.no_grad():
        for _ in range(2):
            with collect_pre_relu(backbone) as maps:
                backbone(images)
            results.append(maps)
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second) and not first.requires_grad
        assert (first < 0).any()


def test_stages_and_channels():
    def channels(config):
        return [s.channels for s in pre_relu_stages(MODELS.build(config))]

    resnet50 = dict(type='ResNet', depth=50)
    assert channels(resnet50) == [256, 512, 1024, 2048]
    assert channels(dict(type='MobileNetV2')) == [24, 32, 96, 320]
    assert channels(dict(type='ResNet', depth=34)) == [64, 128, 256, 512]
    three = dict(type='ResNet', depth=18, num_stages=3, out_indices=(2,))
    three.update(strides=(1, 2, 2), dilations=(1, 1, 1))
    assert channels(three) == [64, 128, 256]
    backbone = MODELS.build(resnet50)
    stages = pre_relu_stages(backbone)
    assert stages[0].norm is backbone.layer1[2].bn3
    assert stages[3].name == 'layer4'


@pytest.mark.parametrize(
    'config',
    [
        dict(type='SEResNet', depth=50),
        dict(type='Res2Net', depth=50),
        dict(type='EfficientNet', arch='b0'),
        dict(type='VisionTransformer', arch='deit-tiny'),
        dict(type='ResNet', depth=18, norm_cfg=dict(type='GN', num_groups=8)),
    ],
    ids=lambda config: config['type'],
)
def test_refuses_other_backbones(config):
    backbone = MODELS.build(config)
    with pytest.raises(ValueError, match=f'{config["type"]} are not known'):
        pre_relu_stages(backbone)


@pytest.mark.parametrize('name', ALL)
def test_sizes_are_those_of_a_pass(name):
    backbone = build(ALL[name])
    before = copy.deepcopy(backbone.state_dict())
    sizes = pre_relu_sizes(backbone, side=66)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key  # also the statistics
    assert sizes == ((17, 17), (9, 9), (5, 5), (3, 3))
    with torch.no_grad(), collect_pre_relu(backbone) as maps:
        backbone(torch.randn(2, 3, 66, 66))
    assert sizes == tuple(tuple(m.shape[2:]) for m in maps)


def test_sizes_of_a_dilated_network():
    config = dict(
        RESNETS['resnet18'], strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
    )
    backbone = MODELS.build(config).to('meta')  # without weights
    sizes = pre_relu_sizes(backbone)
    assert sizes == ((56, 56), (28, 28), (28, 28), (28, 28))
