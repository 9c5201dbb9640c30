"""Clusters under other names, and votes of equals."""

import itertools

import numpy as np
import pytest
import torch

from mmssd.evaluation import (
    accuracies,
    align_clusters,
    cluster_alignment,
    majority_classify,
)


def test_a_permuted_labelling_is_undone():
    labels = np.random.RandomState(0).randint(0, 6, 200)
    names = np.array([3, 5, 0, 1, 4, 2])  # of the clusters
    classes = align_clusters(names[labels], labels)
    assert (classes[names[labels]] == labels).all()


def test_alignment_is_the_best_of_all():
    random = np.random.RandomState(1)
    clusters, labels = random.randint(0, 4, 60), random.randint(0, 4, 60)
    best = max(
        (np.array(order)[clusters] == labels).sum()
        for order in itertools.permutations(range(4))
    )
    assert (align_clusters(clusters, labels)[clusters] == labels).sum() == best


def test_surplus_clusters_get_no_class():
    # cluster 1 overlaps most with class 0, cluster 2 with class 1
    clusters = np.array([0, 1, 1, 2, 2])
    labels = np.array([0, 0, 0, 1, 1])
    assert align_clusters(clusters, labels).tolist() == [-1, 0, 1]


def blobs(count, noise, seed=0):
    """Three directions in the plane; lengths do not matter."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    angle = labels * 2.1 + noise * torch.randn(count, generator=random)
    length = 0.1 + 10 * torch.rand(count, generator=random)
    points = torch.stack([angle.cos(), angle.sin()], 1)
    return length[:, None] * points, labels


def test_separate_clusters():
    x, y = blobs(90, 0.05)
    test_x, test_y = blobs(31, 0.05, seed=1)
    found = cluster_alignment(x, y, test_x, test_y)
    assert found == dict(top1=100.0, class_mean=100.0)
    wrong = test_y.clone()
    wrong[:3] = torch.tensor([1, 2, 0])
    found = cluster_alignment(x, y, test_x, wrong)
    assert found['top1'] == pytest.approx(100 * 28 / 31)
    # one cluster for all: it has the class that is most frequent
    alone = cluster_alignment(x, y, test_x, test_y, num_clusters=1)
    assert alone['class_mean'] == pytest.approx(100 / 3)
    half = cluster_alignment(x, y, test_x, test_y, num_clusters=6)
    assert half['top1'] < 100  # three clusters have no class


def test_bad_clusters():
    x, y = blobs(9, 0.1)
    with pytest.raises(ValueError, match='num_clusters=10'):
        cluster_alignment(x, y, x, y, num_clusters=10)
    with pytest.raises(ValueError, match='restarts=0'):
        cluster_alignment(x, y, x, y, restarts=0)
    with pytest.raises(ValueError, match='width 2, features 3'):
        cluster_alignment(x, y, torch.ones(9, 3), y)


# --- votes ----------------------------------------------------------------


def test_mean_over_classes_of_different_size():
    # class 0: 3 of 4, class 2: 0 of 1
    guess = torch.tensor([0, 0, 0, 2, 0])
    labels = torch.tensor([0, 0, 0, 0, 2])
    assert accuracies(guess, labels) == dict(top1=60.0, class_mean=37.5)
    with pytest.raises(ValueError, match='empty'):
        accuracies(guess[:0], labels[:0])


def test_nearest_neighbour_is_that_of_euclid():
    random = torch.Generator().manual_seed(0)
    bank = torch.randn(700, 5, generator=random, dtype=torch.float64)
    queries = torch.randn(600, 5, generator=random, dtype=torch.float64)
    labels = torch.randint(0, 9, (700,), generator=random)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (bank, queries)]
    nearest = torch.cdist(unit[1], unit[0]).argmin(dim=1)
    guess = majority_classify(bank, labels, 3 * queries)
    assert torch.equal(guess, labels[nearest])


def test_the_majority_wins_and_chance_decides_between_equals():
    bank = torch.tensor([[1.0, 0], [1, 0.1], [1, -0.1], [0, 1]])
    labels = torch.tensor([4, 2, 2, 0])
    query = torch.tensor([[1.0, 0]]).repeat(2000, 1)
    # the nearest is of class 4, the majority of three of class 2
    assert (majority_classify(bank, labels, query, k=1) == 4).all()
    assert (majority_classify(bank, labels, query, k=3) == 2).all()
    # of four: two votes for 2
    assert (majority_classify(bank, labels, query, k=4) == 2).all()
    labels = torch.tensor([4, 4, 2, 2])
    guess = majority_classify(bank, labels, query, k=4)
    share = (guess == 4).double().mean().item()
    assert set(guess.tolist()) == {2, 4}
    # 2000 throws of a coin: 5 standard deviations are 0.056
    assert share == pytest.approx(0.5, abs=0.056)
    again = majority_classify(bank, labels, query, k=4)
    other = majority_classify(bank, labels, query, k=4, seed=1)
    assert torch.equal(guess, again)
    assert not torch.equal(guess, other)


def test_bad_votes():
    bank, labels = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match='k=4'):
        majority_classify(bank, labels, bank, k=4)
