import copy

import pytest
import torch
from mmpretrain.engine.optimizers.lars import LARS
from mmpretrain.registry import OPTIMIZERS
from torch import nn

from mmssd.engine.optimizers.foreach_lars import ForeachLARS

SHAPES = [(4, 3, 2, 2), (5,), (1,), (6, 2), (3,)]
RATES = [0.5, 0.5, 0.3, 0.1, 0.01, 0.2]


def draw(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in SHAPES
    ]


def make_groups(dtype=torch.float64):
    tensors = draw(0, dtype)
    tensors[1].zero_()  # as a bias at birth
    params = [nn.Parameter(t) for t in tensors]
    spared = dict(params=params[3:4], weight_decay=0.0, lars_exclude=True)
    return params, [dict(params=params[:3] + params[4:]), spared]


def make_grads(step, dtype):
    grads = draw(10 + step, dtype)
    if step in (0, 3):
        grads[2].zero_()  # nothing flows here
    if step < 2:
        grads[4] = None  # frozen at first
    return grads


def run(optimizer, params, steps, dtype=torch.float64):
    for step in steps:
        for group in optimizer.param_groups:
            group['lr'] = RATES[step]
        for p, g in zip(params, make_grads(step, dtype), strict=True):
            p.grad = g
        optimizer.step()


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(weight_decay=0.05),
        dict(momentum=0.9, weight_decay=0.05),
        dict(momentum=0.9, eps=0.1),
    ],
)
def test_equals_that_of_mmpretrain(options):
    results = []
    for kind in (LARS, ForeachLARS):
        params, groups = make_groups()
        optimizer = kind(groups, lr=1.0, eta=0.1, **options)
        run(optimizer, params, range(6))
        momenta = (
            [optimizer.state[p]['momentum_buffer'] for p in params]
            if 'momentum' in options
            else []
        )
        results.append([*[p.detach() for p in params], *momenta])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-15)


def test_one_tensor_by_hand():
    # |p| = 5, |g| = 2, decay 0.1, eta 0.01:
    #   factor = 0.01 * 5 / (2 + 0.1 * 5) = 0.02
    #   move = 0.5 * 0.02 * ((0, 2) + 0.1 (3, 4)) = (0.003, 0.024)
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    spared = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = ForeachLARS(
        [dict(params=[p]), dict(params=[spared], lars_exclude=True)],
        lr=0.5,
        weight_decay=0.1,
        eta=0.01,
        eps=0.0,
    )
    for each in (p, spared):
        each.grad = torch.tensor([0.0, 2.0], dtype=torch.float64)
    optimizer.step()
    expected = torch.tensor([2.997, 3.976], dtype=torch.float64)
    torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-14)
    # 0.5 * ((0, 2) + 0.1 (3, 4)) = (0.15, 1.2)
    expected = torch.tensor([2.85, 2.8], dtype=torch.float64)
    torch.testing.assert_close(spared.detach(), expected, rtol=0, atol=1e-14)
    assert p.grad.tolist() == [0.0, 2.0]  # read only


def test_float32_follows_float64():
    results = []
    for dtype in (torch.float32, torch.float64):
        params, groups = make_groups(dtype)
        optimizer = ForeachLARS(
            groups, lr=1.0, momentum=0.9, weight_decay=1e-6
        )
        run(optimizer, params, range(6), dtype)
        results.append([p.detach().double() for p in params])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_mmpretrain_reads_norms_and_this_does_not(host_waits):
    """The fault: two numbers of each tensor come to the host in a step."""
    counts = []
    for kind in (LARS, ForeachLARS):
        params, groups = make_groups()
        optimizer = kind(groups, lr=1.0, momentum=0.9, weight_decay=0.1)
        run(optimizer, params, [0])
        with host_waits() as watch:
            optimizer.step()
        counts.append(len(watch.found))
    # three of four tensors with a gradient are not spared
    assert counts == [6, 0]


@pytest.mark.parametrize('first', [LARS, ForeachLARS])
def test_a_run_goes_on_with_either(first):
    options = dict(lr=1.0, momentum=0.9, weight_decay=0.01)
    second = ForeachLARS if first is LARS else LARS
    whole, groups = make_groups()
    run(first(groups, **options), whole, range(6))
    params, groups = make_groups()
    optimizer = first(groups, **options)
    run(optimizer, params, range(3))
    resumed, groups = make_groups()
    for p, q in zip(resumed, params, strict=True):
        p.data.copy_(q.data)
    other = second(groups, lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(other, resumed, range(3, 6))
    for p, q in zip(resumed, whole, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-15)


def test_closure_and_registry():
    p = nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS.build(dict(type='ForeachLARS', params=[p], lr=0.1))
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        p.grad = torch.zeros(2)
        return torch.tensor(3.0)

    assert optimizer.step(closure) == 3
    assert calls == [True]
    for options, message in (
        (dict(momentum=-1.0), 'momentum'),
        (dict(dampening=0.1), "dampening=0.1: .* take type='LARS'"),
        (dict(momentum=0.9, nesterov=True), 'nesterov=True'),
    ):
        with pytest.raises(ValueError, match=message):
            ForeachLARS([p], lr=0.1, **options)
