"""AdamW with the clipping of DINO."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import OPTIMIZERS
from torch import nn

from mmssd.engine.optimizers.clipped_adamw import ClippedAdamW

SETTINGS = dict(lr=0.1, weight_decay=0.04, betas=(0.8, 0.9), eps=1e-3)


def make():
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(s, generator=generator).double())
        for s in ((3, 2), (4,), (1,), (2,))
    ]


def test_by_hand():
    long, short, absent = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    long.grad = torch.tensor([30.0, 40.0])  # of norm 50
    short.grad = torch.tensor([0.3, 0.4])  # below the bound
    ClippedAdamW([long, short, absent], lr=0.1, max_norm=5.0).step()
    torch.testing.assert_close(long.grad, torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(short.grad, torch.tensor([0.3, 0.4]))
    assert absent.grad is None and not absent.any()


def test_steps_are_those_of_adamw_on_clipped_gradients():
    ours, theirs = make(), make()
    clipped = ClippedAdamW(
        [dict(params=ours[:2]), dict(params=ours[2:], weight_decay=0.0)],
        max_norm=1.5,
        **SETTINGS,
    )
    plain = torch.optim.AdamW(
        [dict(params=theirs[:2]), dict(params=theirs[2:], weight_decay=0.0)],
        **SETTINGS,
    )
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            g = torch.randn(a.shape, generator=generator).double()
            a.grad = g.clone()
            norm = sum(float(x) ** 2 for x in g.flatten()) ** 0.5
            b.grad = g * min(1.0, 1.5 / (norm + 1e-6))
        loss = clipped.step(lambda: torch.tensor(7.0))
        assert loss == 7
        plain.step()
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_registered():
    model = nn.Linear(2, 2)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        wrapper = build_optim_wrapper(
            model,
            dict(
                type='OptimWrapper',
                optimizer=dict(type='ClippedAdamW', lr=0.1, weight_decay=0.04),
                paramwise_cfg=dict(bias_decay_mult=0.0),
            ),
        )
    assert OPTIMIZERS.get('ClippedAdamW') is ClippedAdamW
    assert wrapper.optimizer.max_norm == 3.0  # DINO
    decays = [g['weight_decay'] for g in wrapper.optimizer.param_groups]
    assert sorted(decays) == [0.0, 0.04]
    model(torch.full((1, 2), 1e3)).sum().backward()
    wrapper.step()
    assert model.weight.grad.norm() == pytest.approx(3.0, rel=1e-5)
    assert model.bias.grad.norm() == pytest.approx(2**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(max_norm=0), 'max_norm=0: must be > 0'),
        (dict(max_norm=float('nan')), 'max_norm=nan'),
        (dict(fused=True), 'fused=True'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ClippedAdamW(make(), **kwargs)
