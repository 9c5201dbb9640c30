import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.necks.mlp_neck import MLPNeck


def test_structure_and_values():
    neck = MLPNeck(3, 5, 4)
    kinds = [type(layer).__name__ for layer in neck.mlp]
    assert kinds == ['Linear', 'GELU', 'Linear', 'GELU', 'Linear']
    assert (neck.in_channels, neck.out_channels) == (3, 4)
    x = torch.randn(2, 3, 4, 4)
    expected = x.mean((2, 3))
    for layer in (0, 2):
        expected = F.gelu(neck.mlp[layer](expected))
    expected = neck.mlp[4](expected)
    (result,) = neck((torch.zeros(1), x))
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(neck(x.mean((2, 3)))[0], expected)


def test_one_layer_is_a_linear_map():
    assert [type(x) for x in MLPNeck(3, 5, 4, num_layers=1).mlp] == [nn.Linear]


def test_initialised_as_dino():
    neck = MODELS.build(dict(type='mmpretrain.MLPNeck', in_channels=300))
    neck.init_weights()
    for layer in neck.mlp[::2]:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
        assert (layer.bias == 0).all()


def test_bad_sizes():
    with pytest.raises(ValueError, match=r'num_layers = \(3, 5, 4, 0\)'):
        MLPNeck(3, 5, 4, num_layers=0)
