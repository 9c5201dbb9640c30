"""DINO's projector up to its bottleneck."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmssd.models.necks.dino_projection_neck import DINOProjectionNeck


@pytest.mark.parametrize('norm', [False, True])
def test_three_layers_and_unit_rows(norm):
    torch.manual_seed(0)
    neck = DINOProjectionNeck(6, 5, 4, norm=norm).double()
    x = torch.randn(7, 6, 3, 3).double()
    linear = [m for m in neck.modules() if isinstance(m, nn.Linear)]
    hidden = x.mean(dim=(2, 3))
    for index, layer in enumerate(linear):
        hidden = hidden @ layer.weight.T + layer.bias
        if index < 2:
            if norm:  # statistics of the batch
                centred = hidden - hidden.mean(0)
                hidden = centred / (centred.square().mean(0) + 1e-5).sqrt()
            hidden = F.gelu(hidden)
    wanted = hidden / hidden.norm(dim=1, keepdim=True)
    (embedding,) = neck((x,))
    torch.testing.assert_close(embedding, wanted)
    assert [tuple(m.weight.shape) for m in linear] == [(5, 6), (5, 5), (4, 5)]
    embedding[:, 0].sum().backward()
    assert all(layer.weight.grad.abs().sum() > 1e-6 for layer in linear)


def test_a_width_below_one():
    with pytest.raises(ValueError, match='hid_channels=0.*all must be >= 1'):
        DINOProjectionNeck(6, 0)
