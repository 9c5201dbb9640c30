"""DisCo's distance, RKD and AT, by hand and one element at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from mmssd.models.losses import (
    attention_transfer,
    embedding_mse,
    relation_angle,
    relation_distance,
)
from mmssd.models.losses.relation import _angles


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def gradient(loss, tensor):
    return torch.autograd.grad(loss, tensor)[0]


# --- embeddings -------------------------------------------------------------


def test_embedding_mse_by_hand():
    s = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    t = torch.tensor([[0.0, 1.0], [5.0, 5.0], [7.0, 0.0]])
    # a right angle 2, equal 0, opposite 4
    assert embedding_mse(s, t).item() == pytest.approx(2.0)
    # (1, 0) - (0, 1), (0.7, 0.7) - (5, 5), (-1, 0) - (7, 0)
    expected = (2 + 2 * (5 - 0.5**0.5) ** 2 + 64) / 3
    assert embedding_mse(s, t, True).item() == pytest.approx(expected)


def test_embedding_mse_is_two_minus_two_cosines():
    s, t = rows(5, 4).requires_grad_(), rows(5, 4).requires_grad_()
    loss = embedding_mse(s, t)
    expected = (2 - 2 * F.cosine_similarity(s, t.detach())).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, s), gradient(expected, s))
    embedding_mse(s, t).backward()
    assert t.grad is None


# --- relations --------------------------------------------------------------


def test_relation_distance_by_hand():
    # distances 1, 1, 2 (mean 4/3) against 1, 1, 1 (mean 1): errors of
    # 3/4 - 1 (twice) and 3/2 - 1, each in two of nine entries
    s = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    t = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    expected = 2 * (2 * 0.25**2 / 2 + 0.5**2 / 2) / 9
    assert relation_distance(s, t).item() == pytest.approx(expected, rel=1e-5)


def test_relation_angle_by_hand():
    # on a line the cosine at an end is 1 and in the middle -1; in an
    # equilateral triangle 1/2 everywhere. Of 27 entries 6 have three
    # different points; where i = k both are 1, and edges of length 0 give 0
    s = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    t = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    ends, middle = 4 * 0.5**2 / 2, 2 * (1.5 - 0.5)
    expected = (ends + middle) / 27
    assert relation_angle(s, t).item() == pytest.approx(expected, rel=1e-5)


def slow_relations(e):
    n = len(e)
    distances = [
        [
            (e[i] - e[j]).square().sum().sqrt() if i != j else e.new_zeros(())
            for j in range(n)
        ]
        for i in range(n)
    ]
    flat = torch.stack([torch.stack(row) for row in distances])
    flat = flat / flat[flat > 0].mean()
    angles = []
    for j in range(n):
        for i in range(n):
            for k in range(n):
                if j in (i, k):
                    angles.append(e.new_zeros(()))
                else:
                    angles.append(
                        F.cosine_similarity(e[i] - e[j], e[k] - e[j], dim=0)
                    )
    return flat, torch.stack(angles)


def test_relations_are_the_slow_ones():
    s, t = rows(5, 3).requires_grad_(), rows(5, 6)
    targets = slow_relations(t)
    for function, own, target in zip(
        (relation_distance, relation_angle),
        slow_relations(s),
        targets,
        strict=True,
    ):
        loss = function(s, t)
        expected = F.smooth_l1_loss(own, target)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            gradient(loss, s),
            torch.autograd.grad(expected, s, retain_graph=True)[0],
        )


def test_relations_of_equal_rows_are_finite():
    s = torch.ones(4, 3, requires_grad=True)
    (relation_distance(s, torch.randn(4, 3))).backward()
    (relation_angle(s, torch.randn(4, 3))).backward()
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize('gap', [0.0, 1e-7])
def test_a_pair_that_coincides_has_no_say_in_angles(gap):
    s = torch.randn(4, 3)
    s[1] = s[0] + gap / 3**0.5
    s.requires_grad_()
    loss = relation_angle(s, torch.randn(4, 3))
    loss.backward()
    assert s.grad.abs().max() < 10
    # the pair's edges count with cosine 0: (1, 0) seen from 0, and back
    angles = _angles(s.detach())
    assert (angles[0, 1] == 0).all() and (angles[1, :, 0] == 0).all()
    assert (angles[2].diagonal()[[0, 1, 3]] - 1).abs().max() < 1e-6


@pytest.mark.parametrize('spread', [1e-3, 1e-4])
@pytest.mark.parametrize('function', [relation_distance, relation_angle])
def test_relations_of_nearly_equal_rows_are_accurate(function, spread):
    base = F.normalize(torch.randn(1, 128), dim=1)
    s = (base + spread * torch.randn(16, 128) / 128**0.5).requires_grad_()
    t = torch.randn(16, 8)
    exact = s.detach().double().requires_grad_()
    loss, expected = function(s, t), function(exact, t.double())
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    error = (s.grad - exact.grad).norm() / exact.grad.norm()
    assert error < 1e-4
    if function is relation_distance:
        slow = slow_relations(exact.detach())[0]
        target = slow_relations(t.double())[0]
        assert expected.item() == pytest.approx(
            F.smooth_l1_loss(slow, target).item()
        )


# --- attention --------------------------------------------------------------


def test_attention_transfer_by_hand():
    # one pixel against two equal ones: (1, 0) and (1, 1) / sqrt(2)
    s = torch.zeros(1, 3, 1, 2)
    s[0, 0, 0, 0] = 2.0
    t = torch.ones(1, 5, 1, 2)
    expected = ((1 - 0.5**0.5) ** 2 + 0.5) / 2
    assert attention_transfer(s, t).item() == pytest.approx(expected)


def test_attention_transfer_is_the_slow_one():
    s, t = rows(2, 3, 2, 4).requires_grad_(), rows(2, 5, 2, 4)
    total = 0
    for n in range(2):
        maps = []
        for x in (s[n], t[n]):
            squares = [
                sum(x[c, h, w] ** 2 for c in range(len(x))) / len(x)
                for h in range(2)
                for w in range(4)
            ]
            a = torch.stack(squares)
            maps.append(a / a.norm())
        total = total + (maps[0] - maps[1]).square().sum()
    expected = total / (2 * 2 * 4)
    loss = attention_transfer(s, t)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, s), gradient(expected, s))


# --- all --------------------------------------------------------------------


@pytest.mark.parametrize(
    ('function', 'student', 'teacher', 'message'),
    [
        (embedding_mse, (2, 3), (2, 4), 'equal number and width'),
        (embedding_mse, (2, 3), (3, 3), 'equal number and width'),
        (relation_distance, (2, 3), (3, 3), 'equal number'),
        (relation_angle, (2, 3), (3, 3), 'equal number'),
        (attention_transfer, (2, 3, 4, 4), (2, 3, 2, 2), 'equal stride'),
        (attention_transfer, (2, 3), (2, 3), 'equal stride'),
    ],
)
def test_bad_input(function, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        function(torch.zeros(student), torch.zeros(teacher))


@pytest.mark.parametrize(
    ('function', 'shape'),
    [
        (embedding_mse, (4, 8)),
        (relation_distance, (4, 8)),
        (relation_angle, (4, 8)),
        (attention_transfer, (4, 8, 3, 3)),
    ],
)
def test_float32_under_autocast(function, shape):
    s, t = (torch.randn(shape).bfloat16() for _ in range(2))
    with torch.autocast('cpu', torch.bfloat16):
        loss = function(s, t)
    assert loss.dtype == torch.float32
    exact = function(s.double(), t.double()).item()
    assert math.isclose(loss.item(), exact, rel_tol=1e-4)


def test_registered():
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    distance, angle = relation_distance(s, t), relation_angle(s, t)
    for arguments, expected in (
        ({}, distance + angle),
        (dict(angle_weight=2.0), distance + 2 * angle),
        (dict(distance_weight=0.0), angle),
    ):
        loss = MODELS.build(dict(type='mmpretrain.RelationLoss', **arguments))
        torch.testing.assert_close(loss(s, t), expected)
    with pytest.raises(ValueError, match='not both 0'):
        MODELS.build(
            dict(
                type='mmpretrain.RelationLoss',
                distance_weight=0,
                angle_weight=0,
            )
        )
    loss = MODELS.build(dict(type='mmpretrain.EmbeddingMSELoss'))
    assert loss(s, t) == embedding_mse(s, t)
    loss = MODELS.build(dict(type='mmpretrain.AttentionTransferLoss'))
    maps = torch.randn(2, 3, 2, 2), torch.randn(2, 4, 2, 2)
    assert loss(*maps) == attention_transfer(*maps)
