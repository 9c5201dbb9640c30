import math

import pytest
import torch

from mmssd.evaluation import knn
from mmssd.evaluation.knn import (
    knn_accuracy,
    knn_classify,
    nearest_neighbours,
)

# Three points in the plane, two classes. Query (1, 0): cosines 1, 0.6, 0.
BANK = torch.tensor([[2.0, 0.0], [0.3, 0.4], [0.0, 5.0]])
LABELS = torch.tensor([0, 1, 1])
QUERY = torch.tensor([[3.0, 0.0]])


def brute_force(bank, labels, queries, k, temperature, num_classes):
    """One query at a time, in float64, by sorting all distances."""
    out = torch.zeros(len(queries), num_classes, dtype=torch.float64)
    for row, query in enumerate(queries.double()):
        pairs = []
        for i, x in enumerate(bank.double()):
            cosine = float(query @ x / query.norm() / x.norm())
            pairs.append((-cosine, i))
        for negative, i in sorted(pairs)[:k]:
            weight = 1.0
            if temperature is not None:
                weight = math.exp(-negative / temperature)
            out[row, labels[i]] += weight
    return out / out.sum(1, keepdim=True)


def test_three_points_by_hand():
    # k = 1: the nearest is of class 0
    one = knn_classify(BANK, LABELS, QUERY, k=1)
    torch.testing.assert_close(one, torch.tensor([[1.0, 0.0]]))
    # k = 3, T = 0.5: e^2 against e^1.2 + e^0
    #   7.389056 / (7.389056 + 3.320117 + 1) = 0.631048
    three = knn_classify(BANK, LABELS, QUERY, k=3, temperature=0.5)
    expected = torch.tensor([[0.6310484, 0.3689516]])
    torch.testing.assert_close(three, expected, rtol=0, atol=1e-6)
    # unweighted: one of three neighbours is of class 0
    votes = knn_classify(BANK, LABELS, QUERY, k=3, temperature=None)
    torch.testing.assert_close(votes, torch.tensor([[1 / 3, 2 / 3]]))


@pytest.mark.parametrize('temperature', [None, 0.07, 1.0])
@pytest.mark.parametrize('k', [1, 7, 60])
def test_equals_brute_force(k, temperature):
    torch.manual_seed(0)
    bank = torch.randn(60, 5, dtype=torch.float64)
    labels = torch.randint(0, 4, (60,))
    queries = torch.randn(23, 5, dtype=torch.float64)
    expected = brute_force(bank, labels, queries, k, temperature, 6)
    actual = knn_classify(bank, labels, queries, k, temperature, 6)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected)
    single = knn_classify(
        bank.float(), labels, queries.float(), k, temperature, 6
    )
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


def test_blocks_do_not_matter(monkeypatch):
    torch.manual_seed(1)
    # few distinct rows, so that ties straddle every border
    bank = torch.randint(0, 2, (50, 3)).float()
    labels = torch.randint(0, 5, (50,))
    queries = torch.randint(0, 2, (17, 3)).float()
    whole = knn_classify(bank, labels, queries, k=9)
    for rows in (1, 4, 13):
        monkeypatch.setattr(knn, 'QUERY_ROWS', rows)
        monkeypatch.setattr(knn, 'BANK_ROWS', rows)
        blocks = knn_classify(bank, labels, queries, k=9)
        torch.testing.assert_close(blocks, whole)


def test_ties_go_to_the_lower_index(monkeypatch):
    bank = torch.ones(40, 4)
    labels = torch.arange(40)
    for rows in (16_384, 7):
        monkeypatch.setattr(knn, 'BANK_ROWS', rows)
        votes = knn_classify(bank, labels, torch.ones(2, 4), k=5)
        assert (votes[:, :5] == 0.2).all() and (votes[:, 5:] == 0).all()


def test_small_temperature_stays_finite():
    votes = knn_classify(BANK, LABELS, QUERY, k=3, temperature=1e-6)
    torch.testing.assert_close(votes, torch.tensor([[1.0, 0.0]]))


def test_length_of_rows_does_not_matter():
    torch.manual_seed(2)
    bank, queries = torch.randn(30, 4), torch.randn(6, 4)
    labels = torch.randint(0, 3, (30,))
    expected = knn_classify(bank, labels, queries, k=5)
    for scale in (1e-30, 1e30):
        actual = knn_classify(bank * scale, labels, queries * scale, k=5)
        torch.testing.assert_close(actual, expected)


def test_zero_row_is_equally_far_from_all():
    votes = knn_classify(BANK, LABELS, torch.zeros(1, 2), k=3)
    torch.testing.assert_close(votes, torch.tensor([[1 / 3, 2 / 3]]))


def test_inputs_unchanged_and_empty_query():
    bank, queries = BANK.clone(), QUERY.clone()
    knn_classify(bank, LABELS, queries, k=2)
    assert torch.equal(bank, BANK) and torch.equal(queries, QUERY)
    assert knn_classify(BANK, LABELS, QUERY[:0], k=2).shape == (0, 2)
    half = knn_classify(BANK.bfloat16(), LABELS, QUERY.bfloat16(), k=2)
    assert half.dtype == torch.float32


def test_accuracy_in_percent():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]])
    labels = torch.tensor([0, 1, 1, 7])  # two right; 7 is unknown
    assert knn_accuracy(BANK, LABELS, queries, labels, k=1) == 50.0
    with pytest.raises(ValueError, match='nothing to classify'):
        knn_accuracy(BANK, LABELS, queries[:0], labels[:0], k=1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(k=4), 'k=4: must be between 1 and .* 3'),
        (dict(k=0), 'k=0'),
        (dict(temperature=0.0), 'temperature=0.0'),
        (dict(temperature=-1.0), 'temperature=-1.0'),
        (dict(temperature=float('nan')), 'temperature=nan'),
        (dict(num_classes=1), 'class 1 is out of range for num_classes=1'),
        (dict(train_labels=torch.tensor([0, -1, 1])), '-1 is negative'),
        (dict(train_labels=torch.tensor([0, 1])), 'each of the 3 rows'),
        (dict(features=torch.ones(1, 3)), 'width 2, features 3'),
        (dict(features=torch.ones(3)), r'shape \(3,\)'),
        (dict(features=torch.tensor([[1.0, float('nan')]])), 'row 0'),
    ],
)
def test_errors_name_the_value(change, message):
    arguments = dict(
        train_features=BANK, train_labels=LABELS, features=QUERY, k=1
    )
    with pytest.raises(ValueError, match=message):
        knn_classify(**{**arguments, **change})


def test_wrong_types():
    with pytest.raises(TypeError, match='expected integers'):
        knn_classify(BANK, LABELS.float(), QUERY, k=1)
    with pytest.raises(TypeError, match='expected floats'):
        knn_classify(BANK.long(), LABELS, QUERY, k=1)


def test_nearest_neighbours_by_brute_force(monkeypatch):
    monkeypatch.setattr(knn, 'BANK_ROWS', 7)
    monkeypatch.setattr(knn, 'QUERY_ROWS', 3)
    bank = torch.randn(40, 6, dtype=torch.float64)
    queries = torch.randn(10, 6, dtype=torch.float64) * 100
    bank[31] = 5 * queries[4]  # the same direction
    distances, indices = nearest_neighbours(bank, queries, 4)
    for query, near, index in zip(queries, distances, indices, strict=True):
        gaps = [
            float((row / row.norm() - query / query.norm()).norm())
            for row in bank
        ]
        order = sorted(range(40), key=gaps.__getitem__)[:4]
        assert index.tolist() == order
        assert near.tolist() == pytest.approx([gaps[i] for i in order])
    assert indices[4, 0] == 31 and distances[4, 0] < 1e-12


def test_nearest_neighbours_by_hand():
    bank = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    distances, indices = nearest_neighbours(bank, torch.tensor([[4.0, 0]]), 4)
    # equal rows in the order of their indices; 90 and 180 degrees
    assert indices.tolist() == [[1, 0, 2, 3]]
    assert distances[0].tolist() == pytest.approx([0, 2**0.5, 2**0.5, 2])
    with pytest.raises(ValueError, match='k=5: must be between 1 and .* 4'):
        nearest_neighbours(bank, bank, 5)
    with pytest.raises(ValueError, match='bank have the width 2, features 3'):
        nearest_neighbours(bank, torch.ones(1, 3))
