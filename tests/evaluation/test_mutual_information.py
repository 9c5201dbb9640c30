import math
from collections import Counter

import numpy as np
import pytest
import torch

from mmssd.evaluation.mutual_information import mutual_information


def slow(activations, labels, bins=30):
    """Sums over dictionaries, as the definitions are written."""
    symbols = []
    for row in activations.tolist():
        symbols.append(
            tuple(max(0, math.ceil(a * bins - 1e-9) - 1) for a in row)
        )
    n = len(symbols)
    p_t, p_y = Counter(symbols), Counter(labels.tolist())
    p_ty = Counter(zip(symbols, labels.tolist(), strict=True))
    i_x = sum(1 / n * math.log2(n / p_t[t]) for t in symbols)
    i_y = sum(
        count / n * math.log2(count * n / (p_t[t] * p_y[y]))
        for (t, y), count in p_ty.items()
    )
    return i_x, i_y


def test_distinct_symbols():
    # 8 rows, all different: H(T) = 3 bits, and T tells Y: I = H(Y) = 2
    activations = torch.arange(8)[:, None] / 8
    labels = torch.arange(8) // 2
    assert mutual_information(activations, labels) == pytest.approx((3, 2))


def test_repeated_symbols():
    # Symbols a a b b b b, classes 0 0 0 1 1 1:
    #   H(T) = 1/3 log2 3 + 2/3 log2 3/2 = 0.9182958
    #   H(Y) = 1; pairs a0 2, b0 1, b1 3:
    #   H(T,Y) = 1/3 log2 3 + 1/6 log2 6 + 1/2 = 1.4591479
    #   I(T;Y) = 0.9182958 + 1 - 1.4591479 = 0.4591479
    activations = torch.tensor([[0.2], [0.2], [0.9], [0.9], [0.9], [0.9]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    expected = pytest.approx((0.9182958, 0.4591479), abs=1e-6)
    assert mutual_information(activations, labels) == expected
    # a new symbol after a repeat, in any order of rows
    order = torch.tensor([2, 0, 3, 1, 4, 5])
    shuffled = mutual_information(activations[order], labels[order])
    assert shuffled == expected


def test_saturated_activations():
    # exact zeros and ones repeat: two symbols, one per class
    activations = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 3)
    labels = torch.tensor([0, 1] * 3)
    assert mutual_information(activations, labels) == pytest.approx((1, 1))
    # 0 shares the first bin, 1 the last
    near = torch.tensor([[0.0], [1 / 30], [1.0], [0.97]])
    labels = torch.tensor([0, 0, 1, 1])
    assert mutual_information(near, labels) == pytest.approx((1, 1))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_bins_are_closed_on_the_right(dtype):
    for i in range(1, 31):
        border = torch.tensor(i / 30, dtype=dtype)
        below = torch.nextafter(border, torch.zeros_like(border))
        above = torch.nextafter(border, torch.ones_like(border) * 2)
        rows = [below, border] + ([above] if i < 30 else [])
        labels = torch.arange(len(rows))
        value, _ = mutual_information(torch.stack(rows)[:, None], labels)
        # {below, border} against {above}, or one bin at 1
        expected = 0.9182958 if i < 30 else 0.0
        assert value == pytest.approx(expected, abs=1e-6), i


@pytest.mark.parametrize('bins', [1, 2, 5, 30])
def test_equals_slow_reference(bins):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (400,), generator=generator)
    activations = (3 * logits).softmax(1)
    activations[:50] = activations[50:100]
    actual = mutual_information(activations, labels, bins)
    assert actual == pytest.approx(slow(activations, labels, bins))
    permutation = torch.randperm(400, generator=generator)
    moved = mutual_information(
        activations[permutation], labels[permutation], bins
    )
    assert moved == pytest.approx(actual)


def test_bounds_and_constants():
    constant = torch.full((10, 4), 0.3)
    labels = torch.arange(10) % 2
    assert mutual_information(constant, labels) == (0, 0)
    distinct = torch.linspace(0.01, 1, 1000)[:, None].repeat(1, 2)
    value, about_y = mutual_information(
        distinct, torch.zeros(1000).long(), bins=10_000
    )
    assert value == pytest.approx(math.log2(1000)) and about_y == 0
    rows = np.array([[0.1], [0.9]])
    assert mutual_information(rows, np.array([0, 1])) == (1, 1)


@pytest.mark.parametrize(
    ('activations', 'labels', 'bins', 'message'),
    [
        ([[1.5]], [0], 30, 'activation 1.5'),
        ([[-0.1]], [0], 30, r'activation -0.1.*\[0, 1\]'),
        ([[math.nan]], [0], 30, 'activation nan'),
        ([[0.5]], [0, 1], 30, 'each of the 1 rows'),
        ([0.5], [0], 30, r'shape \(1,\)'),
        ([[0.5]], [0], 0, 'bins=0'),
    ],
)
def test_errors(activations, labels, bins, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(
            torch.tensor(activations), torch.tensor(labels), bins
        )


def test_wrong_types():
    with pytest.raises(TypeError, match='expected floats'):
        mutual_information(torch.ones(2, 1).long(), torch.arange(2))
    with pytest.raises(TypeError, match='expected integers'):
        mutual_information(torch.ones(2, 1), torch.ones(2))
