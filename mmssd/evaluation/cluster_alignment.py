"""How well clusters of frozen features agree with classes.

Shape legend: n training rows, m test rows, D feature width, C classes.
"""

import numpy as np
import torch
from torch import Tensor

from .knn import accuracies, check_labels, unit_rows


def align_clusters(
    clusters: Tensor | np.ndarray, labels: Tensor | np.ndarray
) -> np.ndarray:
    """Give every cluster a class of its own, for the largest overlap.

    Args:
        clusters: ``(n,)`` cluster indices.
        labels: ``(n,)`` class indices.

    Returns:
        ``(K,)`` class of each cluster up to the largest index; -1 for
        clusters that are left when every class has one.
    """
    from scipy.optimize import linear_sum_assignment

    clusters, labels = np.asarray(clusters), np.asarray(labels)
    overlap = np.zeros((clusters.max() + 1, labels.max() + 1), dtype=np.int64)
    np.add.at(overlap, (clusters, labels), 1)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    classes = np.full(len(overlap), -1, dtype=np.int64)
    classes[rows] = columns
    return classes


def cluster_alignment(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    labels: Tensor,
    num_clusters: int | None = None,
    seed: int = 0,
    restarts: int = 1,
) -> dict[str, float]:
    """Classify rows by the class of their k-means cluster.

    The evaluation of `CompRess <https://arxiv.org/abs/2010.14713>`_: k-means
    on the training rows, scaled to unit length, into as many clusters as
    there are classes; every cluster is given a class of its own, by the
    Hungarian method, for the largest overlap on the training rows; a test
    row has the class of its nearest centre. The labels serve the alignment
    only.

    Args:
        train_features: ``(n, D)`` floats.
        train_labels: ``(n,)`` class indices.
        features: ``(m, D)`` floats.
        labels: ``(m,)`` class indices.
        num_clusters: by default the number of classes among the training
            rows. What exceeds the classes counts as wrong.
        seed: of k-means. Defaults to 0.
        restarts: runs of k-means, of which the best is taken. Defaults
            to 1.

    Returns:
        ``top1``, accuracy over the test rows, and ``class_mean``, the mean
        of the accuracies of the classes among them, both in percent.

    Raises:
        ValueError: if a shape or label is wrong, a feature is not finite,
            or there are fewer rows than clusters.
        TypeError: if features are not floats or labels not integers.
    """
    from sklearn.cluster import KMeans

    bank = unit_rows('train_features', train_features).cpu()
    queries = unit_rows('features', features).cpu()
    if bank.size(1) != queries.size(1):
        raise ValueError(
            f'train_features have the width {bank.size(1)}, features '
            f'{queries.size(1)}: both must come from the same network'
        )
    train_labels = check_labels('train_labels', train_labels, len(bank)).cpu()
    labels = check_labels('labels', labels, len(queries)).cpu()
    if num_clusters is None:
        num_clusters = len(train_labels.unique())
    if not 1 <= num_clusters <= len(bank):
        raise ValueError(
            f'num_clusters={num_clusters}: must be between 1 and the number '
            f'of training rows, {len(bank)}'
        )
    if restarts < 1:
        raise ValueError(f'restarts={restarts}: must be at least 1')
    kmeans = KMeans(num_clusters, n_init=restarts, random_state=seed)
    clusters = kmeans.fit_predict(bank.numpy())
    classes = align_clusters(clusters, train_labels.numpy())
    guess = classes[kmeans.predict(queries.numpy())]
    return accuracies(torch.from_numpy(guess), labels)
