"""Nearest-neighbour classification of frozen features.

Shape legend: n training rows, q query rows, D feature width, C classes.
"""

import torch
from torch import Tensor

# Similarities are made in blocks of QUERY_ROWS x BANK_ROWS (32 MB in float32)
# whatever the sizes of the two sets.
QUERY_ROWS = 512
BANK_ROWS = 16_384


def unit_rows(name: str, features: Tensor) -> Tensor:
    """Scale rows to unit length in at least float32; zero rows stay zero.

    Raises:
        ValueError: if the shape is not ``(rows, width)``, or a value is not
            finite.
        TypeError: if they are not floats.
    """
    if features.dim() != 2 or features.size(1) == 0:
        raise ValueError(
            f'{name} of shape {tuple(features.shape)}: expected (rows, width)'
        )
    if not features.is_floating_point():
        raise TypeError(f'{name} of type {features.dtype}: expected floats')
    if features.dtype != torch.float64:
        features = features.float()
    if not torch.isfinite(features).all():
        bad = (~torch.isfinite(features)).any(dim=1).nonzero()[0].item()
        raise ValueError(
            f'{name}: row {bad} holds NaN or infinity; check the network '
            'that made it'
        )
    # through the largest entry, so that squares neither over- nor underflow
    top = features.abs().amax(dim=1, keepdim=True)
    features = features / torch.where(top > 0, top, 1)
    length = features.norm(dim=1, keepdim=True)
    return features / torch.where(length > 0, length, 1)


def check_labels(
    name: str, labels: Tensor, rows: int, num_classes: int | None = None
) -> Tensor:
    """Return class indices as int64.

    Raises:
        TypeError: if they are not integers.
        ValueError: if their number is not ``rows``, or one is negative or
            not below ``num_classes``.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f'{name} of type {labels.dtype}: expected integers')
    if labels.shape != (rows,):
        raise ValueError(
            f'{name} of shape {tuple(labels.shape)}: expected one label for '
            f'each of the {rows} rows'
        )
    labels = labels.long()
    if rows and labels.min() < 0:
        raise ValueError(f'{name}: {labels.min().item()} is negative')
    if rows and num_classes is not None and labels.max() >= num_classes:
        raise ValueError(
            f'{name}: class {labels.max().item()} is out of range for '
            f'num_classes={num_classes}'
        )
    return labels


def accuracies(guess: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy over rows and its mean over classes, in percent.

    The second is for sets whose classes differ in size.

    Args:
        guess: ``(q,)`` predicted class indices.
        labels: ``(q,)`` true ones.

    Returns:
        ``top1`` and ``class_mean``, the mean of the accuracies of the
        classes among ``labels``.

    Raises:
        ValueError: if there are no rows.
    """
    if not len(labels):
        raise ValueError('labels is empty: there is nothing to classify')
    labels = labels.to(guess.device)
    right = (guess == labels).double()
    by_class = [right[labels == c].mean() for c in labels.unique()]
    return dict(
        top1=100 * right.mean().item(),
        class_mean=100 * torch.stack(by_class).mean().item(),
    )


def _first_largest(values: Tensor, k: int) -> Tensor:
    """Columns of the k largest values of each row, ascending.

    Among equal values the leftmost count, which ``torch.topk`` leaves open.
    """
    kth, columns = values.topk(k, dim=1)
    tied = (values >= kth[:, -1:]).sum(dim=1) > k
    if tied.any():
        order = values[tied].sort(dim=1, descending=True, stable=True).indices
        columns[tied] = order[:, :k]
    return columns.sort(dim=1).values


def _neighbours(
    bank: Tensor, queries: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Cosines and indices ``(q, k)`` of the k nearest rows of the bank."""
    best = queries.new_empty(len(queries), 0)
    index = torch.empty_like(best, dtype=torch.long)
    for start in range(0, len(bank), BANK_ROWS):
        block = bank[start : start + BANK_ROWS]
        cosine = queries @ block.to(queries).T  # (q, BANK_ROWS)
        found = _first_largest(cosine, min(k, len(block)))
        # earlier rows stay to the left, so ties go to the lower index
        best = torch.cat([best, cosine.gather(1, found)], dim=1)
        index = torch.cat([index, found + start], dim=1)
        if best.size(1) > k:
            kept = _first_largest(best, k)
            best, index = best.gather(1, kept), index.gather(1, kept)
    return best, index


@torch.no_grad()
def nearest_neighbours(
    bank: Tensor, features: Tensor, k: int = 5
) -> tuple[Tensor, Tensor]:
    """Find the nearest rows of a bank, nearest first.

    The distance is Euclidean between rows of unit length, from 0 to 2: the
    square of it is 2 - 2 cos. Exact; among equally near rows the lower index
    comes first.

    Args:
        bank: ``(n, D)`` floats; need not be normalised.
        features: ``(q, D)`` floats, the queries, likewise.
        k: number of neighbours, 1 to n. Defaults to 5.

    Returns:
        Distances and indices into the bank, both ``(q, k)``.

    Raises:
        ValueError: if k or a shape is out of range, or a feature is not
            finite.
        TypeError: if features are not floats.
    """
    bank, queries = _unit_pair(bank, features, k, ('bank', 'features'))
    distances, indices = [], []
    for rows in queries.split(QUERY_ROWS):
        cosine, index = _neighbours(bank, rows, k)
        order = cosine.sort(dim=1, descending=True, stable=True).indices
        index = index.gather(1, order)
        # 2 - 2 cos would have no digits left for near rows
        gap = bank[index.to(bank.device)].to(rows) - rows[:, None]
        distances.append(gap.norm(dim=2))
        indices.append(index)
    return torch.cat(distances), torch.cat(indices)


def _unit_pair(
    bank: Tensor, queries: Tensor, k: int, names: tuple[str, str]
) -> tuple[Tensor, Tensor]:
    """Check the input; return rows of unit length."""
    bank, queries = (
        unit_rows(name, rows)
        for name, rows in zip(names, (bank, queries), strict=True)
    )
    if bank.size(1) != queries.size(1):
        raise ValueError(
            f'{names[0]} have the width {bank.size(1)}, {names[1]} '
            f'{queries.size(1)}: both must come from the same network'
        )
    if not 1 <= k <= len(bank):
        raise ValueError(
            f'k={k}: must be between 1 and the number of training rows, '
            f'{len(bank)}'
        )
    return bank, queries


def _prepare(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    k: int,
    num_classes: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the input; return unit rows and labels."""
    bank, queries = _unit_pair(
        train_features, features, k, ('train_features', 'features')
    )
    labels = check_labels(
        'train_labels', train_labels, len(bank), num_classes
    ).to(queries.device)
    return bank, labels, queries


@torch.no_grad()
def knn_classify(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    k: int = 20,
    temperature: float | None = 0.07,
    num_classes: int | None = None,
) -> Tensor:
    r"""Classify rows by their k nearest training rows.

    Weighted vote of `Unsupervised Feature Learning via Non-Parametric
    Instance Discrimination <https://arxiv.org/abs/1805.01978>`_, section 3.4:

    .. math::
        p(c \mid x) \propto \sum_{i \in \mathcal{N}_k(x)}
        \exp(\cos(x, x_i) / T)\, [y_i = c]

    with the k rows of the largest cosine as the neighbours
    :math:`\mathcal{N}_k`. Exact; memory does not grow with the product of
    the two sets. Rows need not be normalised; a zero row has the cosine 0
    to every row. Among equally near rows those of the lower index count.

    Args:
        train_features: ``(n, D)`` floats.
        train_labels: ``(n,)`` class indices.
        features: ``(q, D)`` floats, the rows to classify. The work is done
            on their device.
        k: number of neighbours, 1 to n. Defaults to 20.
        temperature: T > 0; ``None`` lets every neighbour count the same.
            Defaults to 0.07, as in the paper.
        num_classes: C; by default the largest training label + 1.

    Returns:
        ``(q, C)`` probabilities, rows sum to 1, in float32 (float64 for
        float64 features).

    Raises:
        ValueError: if k, the temperature, a shape or a label is out of
            range, or a feature is not finite.
        TypeError: if features are not floats or labels not integers.
    """
    if temperature is not None and not temperature > 0:
        raise ValueError(
            f'temperature={temperature}: must be positive, or None for an '
            'unweighted vote'
        )
    bank, labels, queries = _prepare(
        train_features, train_labels, features, k, num_classes
    )
    if num_classes is None:
        num_classes = int(labels.max()) + 1

    votes = queries.new_zeros(len(queries), num_classes)
    for start in range(0, len(queries), QUERY_ROWS):
        block = slice(start, start + QUERY_ROWS)
        cosine, index = _neighbours(bank, queries[block], k)
        if temperature is None:
            weight = torch.ones_like(cosine)
        else:
            # the nearest row has the weight 1, at any temperature
            nearest = cosine.amax(dim=1, keepdim=True)
            weight = ((cosine - nearest) / temperature).exp()
        votes[block].scatter_add_(1, labels[index], weight)
    return votes / votes.sum(dim=1, keepdim=True)


@torch.no_grad()
def majority_classify(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    k: int = 1,
    seed: int = 0,
) -> Tensor:
    """Classify rows by the majority of their k nearest training rows.

    The evaluation of `CompRess <https://arxiv.org/abs/2010.14713>`_ (there
    k is 1): Euclidean distance of rows of unit length, one vote for each
    neighbour, and among classes with equally many votes one at random.

    Args:
        train_features: ``(n, D)`` floats.
        train_labels: ``(n,)`` class indices.
        features: ``(q, D)`` floats, the rows to classify.
        k: number of neighbours, 1 to n. Defaults to 1.
        seed: of the choices between equals. Defaults to 0.

    Returns:
        ``(q,)`` class indices. Among equally near rows those of the lower
        index count.

    Raises:
        ValueError: as :func:`knn_classify`.
        TypeError: as :func:`knn_classify`.
    """
    bank, labels, queries = _prepare(train_features, train_labels, features, k)
    generator = torch.Generator().manual_seed(seed)
    guess = torch.empty(len(queries), dtype=torch.long, device=queries.device)
    for start in range(0, len(queries), QUERY_ROWS):
        block = slice(start, start + QUERY_ROWS)
        # of unit rows the squared distance is 2 - 2 cos
        _, index = _neighbours(bank, queries[block], k)
        votes = torch.zeros(
            len(index), int(labels.max()) + 1, device=queries.device
        )
        found = labels[index]
        votes.scatter_add_(1, found, votes.new_ones(found.shape))
        # less than a vote, so it decides between equals only
        chance = torch.rand(votes.shape, generator=generator)
        guess[block] = (votes + chance.to(votes) / 2).argmax(dim=1)
    return guess


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    labels: Tensor,
    k: int = 20,
    temperature: float | None = 0.07,
) -> float:
    """Return the top-1 accuracy of :func:`knn_classify` in percent.

    Args:
        train_features: ``(n, D)`` floats.
        train_labels: ``(n,)`` class indices.
        features: ``(q, D)`` floats, the rows to classify.
        labels: ``(q,)`` their true classes. A class that no training row
            has cannot be found and counts as wrong.
        k: number of neighbours. Defaults to 20.
        temperature: of the vote, ``None`` for unweighted. Defaults to 0.07.

    Returns:
        0 to 100. Between equally probable classes the lower index is taken.

    Raises:
        ValueError: as :func:`knn_classify`, or if there is nothing to
            classify.
    """
    if not len(features):
        raise ValueError('features is empty: there is nothing to classify')
    labels = check_labels('labels', labels, len(features))
    guess = knn_classify(
        train_features, train_labels, features, k, temperature
    ).argmax(dim=1)
    return 100.0 * (guess == labels.to(guess.device)).double().mean().item()
