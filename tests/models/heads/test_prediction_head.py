"""BYOL: the loss in numpy, who learns, and bad input."""

import numpy as np
import pytest
import torch

from mmssd.models.heads import PredictionHead
from mmssd.models.utils.plan import SetupError
from mmssd.models.utils.step import Encodings, Step

N, D, H = 5, 3, 4


def make_step(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(4, N, D, generator=generator, dtype=torch.float64)
    rows.requires_grad_()
    step = Step(
        student=Encodings(embeddings=[rows[0], rows[1]]),
        momentum=Encodings(embeddings=[rows[2], rows[3]]),
        num_global=2,
    )
    return rows, step


def in_numpy(head, rows):
    first, norm, _, last = head.predictor
    weight, bias = (p.detach().numpy() for p in (first.weight, first.bias))
    assert last.bias is None

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def predict(x):
        x = x @ weight.T + bias
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps)
        return np.maximum(x, 0) @ last.weight.detach().numpy().T

    s1, s2, k1, k2 = rows.detach().numpy()
    terms = [
        ((unit(predict(a)) - unit(b)) ** 2).sum(1).mean()
        for a, b in ((s1, k2), (s2, k1))
    ]
    return sum(terms)


def test_value_and_who_learns():
    torch.manual_seed(0)
    head = PredictionHead(D, H, weight=2.0).double()
    rows, step = make_step()
    loss = head.loss(step)['loss_prediction']
    assert loss.item() == pytest.approx(2 * in_numpy(head, rows), rel=1e-10)
    loss.backward()
    moved = rows.grad.abs().sum((1, 2))
    assert (moved[:2] > 0).all() and (moved[2:] == 0).all()
    assert all(p.grad is not None for p in head.parameters())


def test_gradient_in_float64():
    torch.manual_seed(0)
    head = PredictionHead(D, H).double()
    rows, _ = make_step()
    targets = list(rows[2:].detach())

    def loss(first, second):
        step = Step(
            student=Encodings(embeddings=[first, second]),
            momentum=Encodings(embeddings=targets),
        )
        return head.loss(step)['loss_prediction']

    leaves = [row.detach().requires_grad_() for row in rows[:2]]
    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(embed_dim=0), 'embed_dim=0'),
        (dict(hid_channels=0), 'hid_channels=0'),
        (dict(weight=-1), 'weight=-1'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PredictionHead(**kwargs)


def test_another_width():
    _, step = make_step()
    with pytest.raises(SetupError, match='embed_dim=256.*width 3'):
        PredictionHead().loss(step)
