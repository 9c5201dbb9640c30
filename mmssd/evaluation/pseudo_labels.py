"""Clusters of a teacher's features as labels: CC, and SEED's k-means."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def cluster_features(
    features: Tensor,
    num_clusters: int,
    iterations: int = 20,
    batch_size: int | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""Group unit rows by k-means.

    Rows are scaled to unit length first, so that the squared distance to a
    centre c is :math:`1 - 2 f c + \lVert c \rVert^2`. scikit-learn's
    ``KMeans``, one start by k-means++.

    Args:
        features: ``(N, C)``.
        num_clusters: number of clusters, at most N.
        iterations: at most, each over all rows. Defaults to 20 (CompRess).
        batch_size: rows of a step of ``MiniBatchKMeans``, for sets that are
            too large for full iterations. Defaults to all rows.
        seed: of the start. Equal seeds give equal labels.

    Returns:
        labels ``(N,)`` in ``0 ... num_clusters - 1``, and centres
        ``(num_clusters, C)``.

    Raises:
        ValueError: for more clusters than distinct rows, or rows that are
            not finite.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if features.dim() != 2 or not 1 <= num_clusters <= len(features):
        raise ValueError(
            f'num_clusters={num_clusters} of features '
            f'{tuple(features.shape)}: must be between 1 and the number of '
            'rows'
        )
    if not features.isfinite().all():
        raise ValueError('the features hold NaN or infinity: which teacher?')
    rows = F.normalize(features.float(), dim=1).cpu().numpy()
    common = dict(
        n_clusters=num_clusters,
        max_iter=iterations,
        n_init=1,
        random_state=seed,
    )
    if batch_size is None:
        found = KMeans(**common).fit(rows)
    else:
        found = MiniBatchKMeans(
            batch_size=batch_size,
            max_no_improvement=None,  # else it may stop within one epoch
            **common,
        ).fit(rows)
    centres = torch.from_numpy(np.asarray(found.cluster_centers_))
    labels = assign_clusters(features, centres)
    used = len(labels.unique())
    if used < num_clusters:
        raise ValueError(
            f'num_clusters={num_clusters}, but only {used} are in use: the '
            'features have fewer distinct rows, or clusters died out; lower '
            'it or take another seed'
        )
    return labels, centres


def assign_clusters(features: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of every row, scaled to unit length first.

    Args:
        features: ``(N, C)``.
        centres: ``(K, C)``.

    Returns:
        ``(N,)`` indices of centres.

    Raises:
        ValueError: if the widths differ.
    """
    if features.size(1) != centres.size(1):
        raise ValueError(
            f'features of width {features.size(1)} and centres of width '
            f'{centres.size(1)}: both must come from one teacher'
        )
    offsets = centres.square().sum(1)
    labels = [
        (offsets - 2 * F.normalize(rows.float(), dim=1) @ centres.T).argmin(1)
        for rows in features.split(4096)
    ]
    return torch.cat(labels)


def write_annotations(
    path: str | Path,
    images: Sequence[str],
    labels: Sequence[int] | Tensor,
    root: str | Path = '',
) -> None:
    """Write the list of images and labels that ``CustomDataset`` reads.

    Args:
        path: file to write; it is there completely or not at all.
        images: paths, each below ``root``.
        labels: one for each image.
        root: folder that the written paths are relative to.

    Raises:
        ValueError: for unequal numbers, or an image outside the root.
    """
    if len(images) != len(labels):
        raise ValueError(
            f'{len(images)} images and {len(labels)} labels: one each'
        )
    lines = []
    for image, label in zip(images, labels, strict=True):
        name = os.path.relpath(image, root or '.') if root else image
        if name.startswith('..'):
            raise ValueError(f'image {image} is not below {root}')
        lines.append(f'{name} {int(label)}\n')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(''.join(lines))
    partial.replace(path)
