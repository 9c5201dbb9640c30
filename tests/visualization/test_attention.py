"""Attention of the class token against a block computed by hand."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.visualization.attention import class_attention, enlarge

ARCH = dict(embed_dims=12, num_layers=3, num_heads=2, feedforward_channels=24)
VIT = dict(
    type='VisionTransformer',
    arch=ARCH,
    img_size=32,
    patch_size=8,
    out_type='cls_token',
)
TIMM = dict(
    type='TIMMBackbone',
    model_name='vit_tiny_patch16_224',
    img_size=(32, 48),
    patch_size=8,
    embed_dim=12,
    depth=2,
    num_heads=3,
)
XCIT = dict(
    type='XCiT',
    patch_size=8,
    embed_dims=128,
    depth=1,
    cls_attn_layers=2,
    num_heads=4,
    layer_scale_init_value=1.0,
    out_type='cls_token',
)


def build(config):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config))
    model.eval()  # which gives nothing back
    return model


def by_hand(tokens, qkv, heads):
    """Softmax of the scores of the first token, in float64."""
    n, k, width = tokens.shape
    weight, bias = qkv.weight.double(), qkv.bias.double()
    q, key, _ = (tokens.double() @ weight.T + bias).chunk(3, dim=-1)
    rows = []
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = torch.einsum('nd,nkd->nk', q[:, 0, part], key[..., part])
        rows.append((scores / (width // heads) ** 0.5).softmax(dim=1))
    return torch.stack(rows, dim=1)


@torch.no_grad()
@pytest.mark.parametrize('layer', [0, 1, -1])
def test_mmpretrain(layer):
    model = build(VIT)
    for block in model.layers:  # far from uniform
        block.attn.qkv.weight.mul_(8)
    inputs = []
    hook = model.layers[layer].attn.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    images = torch.randn(2, 3, 32, 32)
    found = class_attention(model, images, layer)
    hook.remove()
    wanted = by_hand(inputs[0], model.layers[layer].attn.qkv, 2)
    torch.testing.assert_close(
        found.weights.double(), wanted, rtol=1e-4, atol=1e-6
    )
    assert found.weights.std(dim=2).min() > 0.01
    torch.testing.assert_close(found.weights.sum(dim=2), torch.ones(2, 2))
    # token 1 + 4 i + j is the patch in row i and column j
    assert found.grid == (4, 4)
    assert torch.equal(found.maps[1, 0, 2, 3], found.weights[1, 0, 12])


@torch.no_grad()
def test_timm_of_an_oblong_image():
    pytest.importorskip('timm')
    model = build(TIMM)
    block = model.timm_model.blocks[-1]
    inputs = []
    block.attn.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    images = torch.randn(1, 3, 32, 48)
    found = class_attention(model, images)
    wanted = by_hand(inputs[0], block.attn.qkv, 3)
    torch.testing.assert_close(
        found.weights.double(), wanted, rtol=1e-4, atol=1e-6
    )
    assert found.grid == (4, 6)
    # without the fused function, the same
    for block in model.timm_model.blocks:
        block.attn.fused_attn = False
    again = class_attention(model, images)
    torch.testing.assert_close(again.weights, found.weights)


@torch.no_grad()
def test_class_attention_of_xcit():
    model = build(XCIT)
    images = torch.randn(2, 3, 64, 64)
    found = class_attention(model, images)
    assert found.grid == (8, 8) and found.weights.shape == (2, 4, 65)
    torch.testing.assert_close(found.weights.sum(dim=2), torch.ones(2, 4))
    first = class_attention(model, images, 0)
    assert not torch.equal(first.weights, found.weights)
    with pytest.raises(ValueError, match='layer 2: .* 2 layers'):
        class_attention(model, images, 2)


def test_no_attention_to_draw():
    resnet = build(
        dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    )
    with pytest.raises(ValueError, match='in a ResNet at 32 x 32'):
        class_attention(resnet, torch.randn(1, 3, 32, 32))
    patches = build(dict(VIT, with_cls_token=False, out_type='avg_featmap'))
    with pytest.raises(ValueError, match='has no class token'):
        class_attention(patches, torch.randn(1, 3, 32, 32))


def test_enlarged_by_its_largest():
    found = enlarge(torch.tensor([[0.1, 0.4]]), 4, 8)
    assert found.shape == (4, 8)
    assert found.max() == 1 and found.min() == 0.25
    assert enlarge(torch.zeros(2, 2), 4, 4).max() == 0
