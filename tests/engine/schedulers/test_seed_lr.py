import math

import pytest
import torch
from mmpretrain.registry import PARAM_SCHEDULERS
from torch import nn

from mmssd.engine.schedulers import SEEDLR


def rates(lr, epochs, **kwargs):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=lr)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='SEEDLR', optimizer=optimizer, **kwargs)
    )
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return seen


def test_by_hand():
    # batch 1024: 0.03 -> 0.12 in five epochs, cosine of epoch / 200
    seen = rates(0.12, 200, unscaled_lr=0.03, T_max=200)
    assert seen[:5] == pytest.approx([0.03, 0.048, 0.066, 0.084, 0.102])
    for epoch in (5, 100, 199):
        expected = 0.06 * (1 + math.cos(math.pi * epoch / 200))
        assert seen[epoch] == pytest.approx(expected)
    assert seen[5] < 0.12  # the cosine has counted on
    assert seen[100] == pytest.approx(0.06)


def test_below_256_images_it_warms_down():
    seen = rates(0.003, 6, unscaled_lr=0.03, T_max=10)
    assert seen[0] == pytest.approx(0.03)
    assert seen[4] == pytest.approx(0.0084)
    assert seen[5] == pytest.approx(0.0015)


def test_no_warmup_at_256_images():
    seen = rates(0.03, 5, unscaled_lr=0.03, T_max=200)
    assert seen == pytest.approx([0.03] * 5)
    seen = rates(0.03, 2, unscaled_lr=0.03, T_max=2, warmup=0)
    assert seen == pytest.approx([0.03, 0.015])


def test_groups_keep_the_ratio_of_their_rates():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [
            dict(params=[w], lr=lr)
            for w, lr in zip(weights, (0.12, 0.012), strict=True)
        ],
        lr=1.0,
    )
    scheduler = SEEDLR(optimizer, unscaled_lr=0.03, T_max=20)
    for expected in (0.03, 0.048):
        rates = [group['lr'] for group in optimizer.param_groups]
        assert rates == pytest.approx([expected, expected / 10])
        optimizer.step()
        scheduler.step()


def test_resumes():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.12)
    scheduler = SEEDLR(optimizer, unscaled_lr=0.03, T_max=20)
    for _ in range(7):
        optimizer.step()
        scheduler.step()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.12)
    other.load_state_dict(optimizer.state_dict())
    again = SEEDLR(other, unscaled_lr=0.03, T_max=20, last_step=6)
    again.load_state_dict(scheduler.state_dict())
    for o, s in ((optimizer, scheduler), (other, again)):
        o.step()
        s.step()
    expected = 0.06 * (1 + math.cos(math.pi * 8 / 20))
    for o in (optimizer, other):
        assert o.param_groups[0]['lr'] == pytest.approx(expected)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(unscaled_lr=0, T_max=2), 'unscaled_lr=0'),
        (dict(unscaled_lr=0.1, T_max=2, warmup=3), 'warmup=3, T_max=2'),
        (dict(unscaled_lr=0.1, T_max=9, by_epoch=False), 'once an epoch'),
    ],
)
def test_errors(kwargs, message):
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.12)
    with pytest.raises(ValueError, match=message):
        SEEDLR(optimizer, **kwargs)
