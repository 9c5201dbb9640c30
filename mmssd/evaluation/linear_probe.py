"""Linear classification of frozen features.

Shape legend: n training rows, m test rows, D feature width, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor

from .knn import accuracies, check_labels

WEIGHT_DECAYS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FOLDS = 5
# With more rows than this one fold tells the weight decays apart.
ONE_FOLD_ROWS = 10_000
PATIENCE = 2  # weaker decays tried after the best one so far
TOLERANCE = 1e-4  # of the probe's fits, see logistic_regression


def _as_numpy_labels(
    labels: Tensor | np.ndarray | Sequence[int],
) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f'labels of type {labels.dtype} and shape {labels.shape}: '
            'expected one integer per row'
        )
    return labels


def _shuffled_classes(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Row indices of each class, in random order."""
    # the stream of RandomState is frozen across versions of numpy
    random = np.random.RandomState(seed)
    return [
        random.permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]


def stratified_subset(
    labels: Tensor | np.ndarray | Sequence[int],
    fraction: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Choose rows at random, the same share or number of every class.

    Equal on every machine. With one seed smaller subsets are contained in
    larger ones.

    Args:
        labels: ``(n,)`` integers.
        fraction: share of every class in (0, 1], rounded to whole rows, at
            least one of each class.
        per_class: number of rows of every class, instead of ``fraction``.
        seed: of the choice. Defaults to 0.

    Returns:
        Ascending indices of the chosen rows, int64.

    Raises:
        ValueError: if not exactly one of ``fraction`` and ``per_class`` is
            given, one is out of range, or a class has too few rows.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError(
            f'fraction={fraction}, per_class={per_class}: give one of the two'
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f'fraction={fraction}: must be in (0, 1]')
    if per_class is not None and per_class < 1:
        raise ValueError(f'per_class={per_class}: must be at least 1')
    labels = _as_numpy_labels(labels)
    if not len(labels):
        raise ValueError('labels is empty')
    chosen = []
    for rows in _shuffled_classes(labels, seed):
        count = per_class
        if count is None:
            count = max(1, int(fraction * len(rows) + 0.5))
        if count > len(rows):
            raise ValueError(
                f'per_class={per_class}: class {labels[rows[0]]} has only '
                f'{len(rows)} rows'
            )
        chosen.append(rows[:count])
    return np.sort(np.concatenate(chosen))


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Fold in which each row is held out; -1 for the only one of a class."""
    fold = np.full(len(labels), -1)
    for rows in _shuffled_classes(labels, seed):
        if len(rows) > 1:
            fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def logistic_regression(
    x: Tensor,
    y: Tensor,
    weight_decay: float,
    num_classes: int | None = None,
    tolerance: float | None = None,
    max_iterations: int = 500,
) -> tuple[Tensor, Tensor]:
    r"""Fit a multinomial logistic regression to its optimum.

    .. math::
        \min_{W, b}\; \frac{1}{n} \sum_i
        \mathrm{CE}(y_i, W x_i + b) + \frac{\lambda}{2} \|W\|^2

    The bias is not decayed. The objective is that of scikit-learn's
    ``LogisticRegression(C=1 / (n * weight_decay))``. It is solved by L-BFGS
    in coordinates in which the curvature is about the same in all
    directions, so some twenty passes over the data suffice for any decay.

    Args:
        x: ``(n, D)`` floats, best with zero mean and unit variance.
        y: ``(n,)`` class indices.
        weight_decay: :math:`\lambda > 0`.
        num_classes: C; by default the largest label + 1.
        tolerance: largest entry of the gradient, in those coordinates, to
            stop at; by default 1e-5 in float32 and 1e-9 in float64.
        max_iterations: of L-BFGS. Defaults to 500.

    Returns:
        W ``(C, D)`` and b ``(C,)``, of the type and device of ``x``.

    Raises:
        ValueError: if the decay is not positive, or a shape or label wrong.
    """
    if not weight_decay > 0:
        raise ValueError(f'weight_decay={weight_decay}: must be positive')
    y = check_labels('y', y, len(x), num_classes).to(x.device)
    if num_classes is None:
        num_classes = int(y.max()) + 1

    # The Hessian is about p (1 - p) X^T X / n + lambda, with p = 1 / C.
    # Its inverse root scales the axes; W = U S^T keeps the problem the same.
    curvature = (1 - 1 / num_classes) / num_classes
    variances, axes = torch.linalg.eigh((x.T @ x / len(x)).double())
    variances = variances.clamp_min(0)
    scales = axes * (curvature * variances + weight_decay).rsqrt()
    scales = scales.to(x)  # S, (D, D)
    bias_scale = curvature**-0.5

    u = x.new_zeros(num_classes, x.size(1), requires_grad=True)
    v = x.new_zeros(num_classes, requires_grad=True)
    if tolerance is None:
        tolerance = 1e-9 if x.dtype == torch.float64 else 1e-5
    solver = torch.optim.LBFGS(
        [u, v],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        line_search_fn='strong_wolfe',
    )

    def objective() -> Tensor:
        solver.zero_grad()
        weight = u @ scales.T
        loss = F.cross_entropy(x @ weight.T + bias_scale * v, y)
        loss = loss + weight_decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(objective)
        objective()
    slope = max(u.grad.abs().max().item(), v.grad.abs().max().item())
    if not slope < 1e-3:
        MMLogger.get_current_instance().warning(
            f'logistic regression with weight_decay={weight_decay} did not '
            f'converge in {max_iterations} iterations (gradient {slope:.1e})'
        )
    return (u @ scales.T).detach(), (bias_scale * v).detach()


def standardiser(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of the columns; constant columns keep the scale 1."""
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    noise = 10 * torch.finfo(x.dtype).eps * x.abs().amax(dim=0)
    return mean, torch.where(std > noise, std, 1)


def _choose_weight_decay(
    x: Tensor,
    y: Tensor,
    num_classes: int,
    weight_decays: Sequence[float],
    seed: int,
) -> float:
    fold = torch.from_numpy(_folds(y.cpu().numpy(), seed)).to(x.device)
    if not (fold >= 0).any():
        raise ValueError(
            'no class has two training rows, so none can be held out to '
            'choose the weight decay: give weight_decays=(value,)'
        )
    splits = []
    for number in range(1 if len(x) > ONE_FOLD_ROWS else FOLDS):
        held = fold == number
        if held.any():
            mean, scale = standardiser(x[~held])
            rows = (x - mean) / scale
            splits.append((rows[~held], y[~held], rows[held], y[held]))
    best, chosen, behind = -1, None, 0
    # from strong to weak: overfitting ones come last and take longest
    for weight_decay in sorted(weight_decays, reverse=True):
        right = 0
        for rows, labels, held_rows, held_labels in splits:
            weight, bias = logistic_regression(
                rows, labels, weight_decay, num_classes, TOLERANCE
            )
            guess = (held_rows @ weight.T + bias).argmax(dim=1)
            right += (guess == held_labels).sum().item()
        behind += 1
        if right > best:
            best, chosen, behind = right, weight_decay, 0
        if behind == PATIENCE:
            break
    return chosen


@torch.no_grad()
def linear_probe(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    seed: int = 0,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
) -> dict[str, float]:
    """Accuracy of the best linear classifier of frozen features.

    Features are standardised by the statistics of the training rows, then a
    logistic regression is fitted to its optimum, so there is no schedule to
    tune. The weight decay is the one of ``weight_decays`` that classifies
    held-out training rows best (the stronger of equals): every fifth row of
    each class, in five folds, or in one fold beyond 10,000 rows; test rows
    play no part. The search goes from strong to weak and ends when two in
    turn were no better. The final fit uses all training rows. Deterministic.

    Args:
        train_x: ``(n, D)`` floats.
        train_y: ``(n,)`` class indices.
        test_x: ``(m, D)`` floats.
        test_y: ``(m,)`` class indices. A class without training rows counts
            as wrong.
        seed: of the choice of held-out rows. Defaults to 0.
        weight_decays: candidates, see :func:`logistic_regression`; a single
            one is taken as it is.

    Returns:
        ``top1``, accuracy over the test rows, and ``class_mean``, the mean
        of the accuracies of the classes among them, both in percent; and
        the chosen ``weight_decay``.

    Raises:
        ValueError: if shapes, labels or candidates are wrong, a feature is
            not finite, there is only one class, or no row can be held out.
    """
    if not len(weight_decays) or min(weight_decays) <= 0:
        raise ValueError(
            f'weight_decays={tuple(weight_decays)}: give positive candidates'
        )
    for name, x in (('train_x', train_x), ('test_x', test_x)):
        if x.dim() != 2 or not len(x):
            raise ValueError(
                f'{name} of shape {tuple(x.shape)}: expected (rows, width)'
            )
        if not torch.isfinite(x).all():
            raise ValueError(f'{name} holds NaN or infinity')
    if train_x.size(1) != test_x.size(1):
        raise ValueError(
            f'train_x has the width {train_x.size(1)}, test_x '
            f'{test_x.size(1)}: both must come from the same network'
        )
    train_y = check_labels('train_y', train_y, len(train_x))
    test_y = check_labels('test_y', test_y, len(test_x))
    if train_y.min() == train_y.max():
        raise ValueError(
            f'train_y holds only class {train_y[0].item()}: nothing to learn'
        )
    exact = torch.promote_types(train_x.dtype, torch.float32)
    train_x, test_x = train_x.to(exact), test_x.to(train_x.device, exact)
    train_y, test_y = train_y.to(train_x.device), test_y.to(train_x.device)
    num_classes = int(train_y.max()) + 1

    weight_decay = weight_decays[0]
    if len(weight_decays) > 1:
        weight_decay = _choose_weight_decay(
            train_x, train_y, num_classes, weight_decays, seed
        )
    mean, scale = standardiser(train_x)
    weight, bias = logistic_regression(
        (train_x - mean) / scale, train_y, weight_decay, num_classes, TOLERANCE
    )
    guess = ((test_x - mean) / scale @ weight.T + bias).argmax(dim=1)
    return dict(**accuracies(guess, test_y), weight_decay=float(weight_decay))
