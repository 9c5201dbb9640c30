import copy

import pytest
import torch
from mmpretrain.engine.optimizers.lars import LARS
from mmpretrain.registry import OPTIMIZERS
from torch import nn

from mmssd.engine.optimizers.larc import LARC


class SlowLARC:
    """The rule one tensor at a time, in plain Python."""

    def __init__(self, params, momentum, decay, trust, clip, eps=1e-8):
        self.params, self.buffers = params, {}
        self.momentum, self.decay = momentum, decay
        self.trust, self.clip, self.eps = trust, clip, eps

    def step(self, grads, lr):
        for index, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            if g is None:
                continue
            p_norm = sum(float(x) ** 2 for x in p.flatten()) ** 0.5
            g_norm = sum(float(x) ** 2 for x in g.flatten()) ** 0.5
            if p_norm != 0 and g_norm != 0:
                local = self.trust * p_norm
                local /= g_norm + self.decay * p_norm + self.eps
                if self.clip:
                    local = min(local / lr, 1.0)
                g = local * (g + self.decay * p)
            if index in self.buffers:
                self.buffers[index] = self.momentum * self.buffers[index] + g
            else:
                self.buffers[index] = g.clone()
            p -= lr * self.buffers[index]


SHAPES = [(4, 3, 2, 2), (5,), (1,), (6, 2), (3,)]


def draw(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    tensors = [
        torch.randn(s, generator=generator, dtype=torch.float64)
        for s in SHAPES
    ]
    return [t.to(dtype) for t in tensors]


def make_params(dtype=torch.float64):
    params = draw(0, dtype)
    params[1].zero_()  # as a bias at birth
    return params


def make_grads(step, dtype=torch.float64):
    grads = draw(10 + step, dtype)
    if step in (0, 3):
        grads[3].zero_()  # nothing flows here, with momentum and without
    if step < 2:
        grads[4] = None  # frozen at first
    return grads


def run(optimizer, params, steps, rates, dtype=torch.float64):
    for step in steps:
        optimizer.param_groups[0]['lr'] = rates[step]
        for p, g in zip(params, make_grads(step, dtype), strict=True):
            p.grad = g
        optimizer.step()


RATES = [0.5, 0.5, 0.3, 0.1, 0.01, 0.2]


def test_one_tensor_by_hand():
    # |p| = 5, |g| = 2, decay 0.1, trust 0.01:
    #   factor = 0.01 * 5 / (2 + 0.1 * 5) = 0.02
    #   first step: 0.02 * ((0, 2) + 0.1 (3, 4)) = (0.006, 0.048)
    #   p = (3, 4) - 0.5 (0.006, 0.048) = (2.997, 3.976)
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = LARC(
        [p], lr=0.5, weight_decay=0.1, trust_coefficient=0.01, eps=0.0
    )
    p.grad = torch.tensor([0.0, 2.0], dtype=torch.float64)
    optimizer.step()
    expected = torch.tensor([2.997, 3.976], dtype=torch.float64)
    torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-14)
    assert p.grad.tolist() == [0.0, 2.0]  # read only


@pytest.mark.parametrize('clip', [False, True])
@pytest.mark.parametrize('momentum', [0.0, 0.9])
@pytest.mark.parametrize('decay', [0.0, 0.05])
def test_equals_slow_reference(clip, momentum, decay):
    trust = 0.4  # so that clipping happens at some steps only
    slow_params = make_params()
    slow = SlowLARC(slow_params, momentum, decay, trust, clip)
    for step, lr in enumerate(RATES):
        slow.step(make_grads(step), lr)
    params = [nn.Parameter(p) for p in make_params()]
    optimizer = LARC(
        params,
        lr=1.0,
        momentum=momentum,
        weight_decay=decay,
        trust_coefficient=trust,
        clip=clip,
    )
    run(optimizer, params, range(6), RATES)
    for p, expected in zip(params, slow_params, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=0)


def test_float32_follows_float64():
    results = []
    for dtype in (torch.float32, torch.float64):
        params = [nn.Parameter(p) for p in make_params(dtype)]
        optimizer = LARC(params, lr=1.0, weight_decay=1e-6)
        run(optimizer, params, range(6), RATES, dtype)
        results.append([p.detach().double() for p in params])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_zero_norms():
    # A zero gradient leaves p alone: no decay. A zero p gets the plain g.
    still, born = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(2))
    still.grad, born.grad = torch.zeros(2), torch.tensor([1.0, -2.0])
    LARC([still, born], lr=0.1, weight_decay=10.0).step()
    assert still.tolist() == [1.0, 1.0]
    torch.testing.assert_close(born.detach(), torch.tensor([-0.1, 0.2]))


def test_no_gradient_no_momentum():
    p = nn.Parameter(torch.ones(2))
    optimizer = LARC([p], lr=0.1)
    optimizer.step()
    assert not optimizer.state and p.tolist() == [1.0, 1.0]


def test_options_by_group():
    a, b = (nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(2))
    optimizer = LARC(
        [dict(params=[a]), dict(params=[b], weight_decay=0.1, lr=0.2)],
        lr=0.1,
        trust_coefficient=0.01,
    )
    a.grad, b.grad = torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0])
    optimizer.step()
    # a: 0.01 * 5 / 2 * (0, 2) = (0, 0.05); b: (0.006, 0.048) as above
    torch.testing.assert_close(a.detach(), torch.tensor([3.0, 3.995]))
    torch.testing.assert_close(b.detach(), torch.tensor([2.9988, 3.9904]))


def test_state_dict_round_trip():
    whole = [nn.Parameter(p) for p in make_params()]
    run(LARC(whole, lr=1.0, weight_decay=0.01), whole, range(6), RATES)
    params = [nn.Parameter(p) for p in make_params()]
    optimizer = LARC(params, lr=1.0, weight_decay=0.01)
    run(optimizer, params, range(3), RATES)
    state = copy.deepcopy(optimizer.state_dict())
    resumed = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer = LARC(resumed, lr=1.0)
    optimizer.load_state_dict(state)
    run(optimizer, resumed, range(3, 6), RATES)
    for p, expected in zip(resumed, whole, strict=True):
        assert torch.equal(p, expected)


def test_mixed_types_and_bfloat16():
    params = [
        nn.Parameter(torch.full((2,), 2.0, dtype=dtype))
        for dtype in (torch.float64, torch.bfloat16, torch.float32)
    ]
    for p in params:
        p.grad = torch.ones_like(p)
    LARC(params, lr=1.0, trust_coefficient=0.5).step()
    # |p| / |g| = 2: factor 1
    for p in params:
        torch.testing.assert_close(p.detach(), torch.ones_like(p))


def test_parts_from_lars_when_the_rate_changes():
    larc, lars = ([nn.Parameter(p) for p in make_params()] for _ in range(2))
    first, second = LARC(larc, lr=1.0), LARS(lars, lr=1.0, momentum=0.9)
    distances = []
    for lr in (0.5, 0.5, 0.05, 0.05):
        for optimizer, params in ((first, larc), (second, lars)):
            optimizer.param_groups[0]['lr'] = lr
            for p, g in zip(params, make_grads(0), strict=True):
                p.grad = g
            optimizer.step()
        distances.append((larc[0] - lars[0]).abs().max().item())
    assert max(distances[:2]) < 1e-12
    assert min(distances[2:]) > 1e-4


def test_registered_and_errors():
    params = [nn.Parameter(torch.ones(1))]
    built = OPTIMIZERS.build(dict(type='LARC', params=params, lr=0.6))
    assert isinstance(built, LARC)
    assert built.defaults['trust_coefficient'] == 0.001
    with pytest.raises(ValueError, match='lr=-1'):
        LARC(params, lr=-1)
    with pytest.raises(ValueError, match='weight_decay=-1'):
        LARC([dict(params=params, weight_decay=-1)], lr=1.0)
    with pytest.raises(ValueError, match='trust_coefficient=0'):
        LARC(params, lr=1.0, trust_coefficient=0)
    embedding = nn.Embedding(3, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match='sparse'):
        LARC(embedding.parameters(), lr=1.0).step()


def test_closure():
    p = nn.Parameter(torch.tensor([2.0]))

    def closure():
        p.grad = None
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert LARC([p], lr=0.1).step(closure) == 4.0
