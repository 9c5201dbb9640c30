"""InfoNCE with a margin, by hand and against cross-entropy."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from mmssd.models.losses import in_batch_info_nce, info_nce


def test_by_hand():
    q = torch.tensor([[5.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    # positive 1 - 0.4, negatives 0 and 1, over a temperature of 1/2
    loss = info_nce(q, 2 * q, queue, 0.5, 0.4)
    expected = math.log(math.exp(1.2) + 1 + math.exp(2)) - 1.2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('margin', [0.0, 0.4])
def test_is_cross_entropy_of_column_zero(margin):
    q, k = (torch.randn(6, 4).double().requires_grad_() for _ in range(2))
    queue = F.normalize(torch.randn(9, 4).double(), dim=1).requires_grad_()
    loss = info_nce(q, k, queue, 0.2, margin)
    unit_q, unit_k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    own = torch.einsum('nd,nd->n', unit_q, unit_k)[:, None] - margin
    logits = torch.cat([own, unit_q @ queue.detach().t()], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(loss, expected)
    for got, wanted in zip(
        torch.autograd.grad(loss, [q, k], retain_graph=True),
        torch.autograd.grad(expected, [q, k]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    loss.backward()
    assert queue.grad is None


def test_no_margin_is_the_plain_loss_exactly():
    q, k, queue = (torch.randn(n, 4) for n in (6, 6, 9))
    queue = F.normalize(queue, dim=1)
    plain = info_nce(q, k, queue, 0.2)
    assert torch.equal(info_nce(q, k, queue, 0.2, 0.0), plain)
    assert not torch.equal(info_nce(q, k, queue, 0.2, 0.4), plain)


def test_the_gradient_by_hand():
    """Of the scores: (p - onehot) / (N tau), the margin in p alone."""
    tau, margin = 0.2, 0.4
    q = F.normalize(torch.randn(3, 4).double(), dim=1).requires_grad_()
    k = F.normalize(torch.randn(3, 4).double(), dim=1)
    queue = F.normalize(torch.randn(5, 4).double(), dim=1)
    (got,) = torch.autograd.grad(info_nce(q, k, queue, tau, margin), q)
    for n in range(3):
        rows = torch.cat([k[n : n + 1], queue])
        scores = rows @ q[n].detach()
        scores[0] -= margin
        p = (scores / tau).exp()
        p = p / p.sum()
        p[0] -= 1
        wanted = p @ rows / (3 * tau)
        # the query is normalised: what is along it has no effect
        unit = q[n].detach()
        wanted = wanted - unit * (unit @ wanted)
        torch.testing.assert_close(got[n], wanted)


@pytest.mark.parametrize(('start', 'margin'), [(0, 0.0), (2, 0.4)])
def test_in_batch_is_the_slow_reference(start, margin):
    q = torch.randn(4, 3).double().requires_grad_()
    k = torch.randn(6, 3).double().requires_grad_()
    loss = in_batch_info_nce(q, k, start, 0.2, margin)
    unit_q, unit_k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    total = 0
    for n in range(4):
        exponents = [
            (unit_q[n] @ unit_k[j] - (margin if j == start + n else 0)) / 0.2
            for j in range(6)
        ]
        total = (
            total
            - (
                exponents[start + n].exp() / sum(e.exp() for e in exponents)
            ).log()
        )
    torch.testing.assert_close(loss, total / 4)
    for got, wanted in zip(
        torch.autograd.grad(loss, [q, k]),
        torch.autograd.grad(total / 4, [q, k]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    assert torch.autograd.gradcheck(
        lambda q, k: in_batch_info_nce(q, k, start, 0.2, margin), (q, k)
    )


def test_in_batch_of_one_image_is_zero():
    assert in_batch_info_nce(torch.ones(1, 3), torch.ones(1, 3)).item() == 0


def test_in_batch_needs_a_key_for_each_query():
    for start in (-1, 1):
        with pytest.raises(ValueError, match=f'from row start={start} on'):
            in_batch_info_nce(torch.ones(3, 2), torch.ones(3, 2), start)


def test_a_margin_makes_it_harder():
    q, k, queue = (torch.randn(n, 4) for n in (6, 6, 9))
    values = [info_nce(q, k, queue, 0.2, m).item() for m in (0, 0.2, 0.4)]
    assert values == sorted(values) and values[0] < values[2]


def test_float32_under_autocast():
    q, k, queue = (torch.randn(n, 16) for n in (6, 6, 9))
    with torch.autocast('cpu', torch.bfloat16):
        loss = info_nce(q.bfloat16(), k, queue)
    exact = info_nce(q.bfloat16().double(), k.double(), queue.double())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(temperature=0.0), 'temperature=0.0'),
        (dict(margin=-0.1), 'margin=-0.1'),
        (dict(margin=2.0), 'margin=2.0'),
        (dict(key=torch.zeros(2, 4)), 'key (2, 4)'),
        (dict(queue=torch.zeros(5, 4)), 'queue (5, 4)'),
    ],
)
def test_bad_input(arguments, message):
    good = dict(
        query=torch.zeros(2, 3), key=torch.zeros(2, 3), queue=torch.ones(5, 3)
    )
    with pytest.raises(ValueError) as info:
        info_nce(**{**good, **arguments})
    assert message in str(info.value)


def test_registered():
    loss = MODELS.build(
        dict(type='mmpretrain.InfoNCELoss', temperature=0.1, margin=0.4)
    )
    q, k, queue = (torch.randn(n, 4) for n in (6, 6, 9))
    assert loss(q, k, queue) == info_nce(q, k, queue, 0.1, 0.4)
