"""Relations between the rows of a batch (RKD)."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .embedding_mse import check_rows

# rows closer than this have no direction: their difference is rounding
SHORTEST = 1e-6


def _distances(rows: Tensor) -> Tensor:
    """Euclidean distances over the mean of the positive ones, ``(N, N)``."""
    # from differences: the expanded square cancels where rows are alike
    distances = torch.cdist(
        rows, rows, compute_mode='donot_use_mm_for_euclid_dist'
    ).clamp(min=SHORTEST)
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    distances = distances.masked_fill(own, 0)
    positive = distances > 0
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / mean.clamp(min=torch.finfo(rows.dtype).tiny)


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Distance-wise relational distillation (RKD-D).

    .. math::
        L = \frac{1}{N^2} \sum_{ij}
        \ell_\delta\big(\lVert s_i - s_j \rVert / \mu_S,
        \lVert t_i - t_j \rVert / \mu_T\big)

    with :math:`\mu` the mean of the positive distances of each network and
    the smooth l1 loss :math:`\ell_\delta` (beta 1). `Relational Knowledge
    Distillation <https://arxiv.org/abs/1904.05068>`_, eq. 6 and 7; squared
    distances, taken from differences, are clamped at 1e-12 and the diagonal
    is zero.

    Args:
        student: ``(N, D_S)`` rows, used as given.
        teacher: ``(N, D_T)`` rows, used as given, without gradient.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: if they are not rows of the same images.
    """
    dtype = _check_batch(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        with torch.no_grad():
            target = _distances(teacher.detach().to(dtype))
        return F.smooth_l1_loss(_distances(student.to(dtype)), target)


def _angles(rows: Tensor) -> Tensor:
    """Cosines of the angles at every vertex j, ``(N, N, N)``."""
    edges = rows[None] - rows[:, None]  # [j, i] = e_i - e_j
    squared = edges.square().sum(dim=2, keepdim=True)
    long = squared > SHORTEST**2
    edges = torch.where(long, edges / squared.where(long, 1).sqrt(), 0)
    return edges @ edges.transpose(1, 2)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Angle-wise relational distillation (RKD-A).

    .. math::
        L = \frac{1}{N^3} \sum_{ijk} \ell_\delta\big(
        \cos \angle s_i s_j s_k, \cos \angle t_i t_j t_k \big)

    `Relational Knowledge Distillation <https://arxiv.org/abs/1904.05068>`_,
    eq. 9 and 10, with the smooth l1 loss (beta 1). Edges not longer than
    1e-6, which in float32 are rounding, count with cosine 0 and without
    gradient. Needs ``N^3`` numbers per network.

    Args:
        student: ``(N, D_S)`` rows, used as given.
        teacher: ``(N, D_T)`` rows, used as given, without gradient.

    Returns:
        Scalar, in at least float32.

    Raises:
        ValueError: if they are not rows of the same images.
    """
    dtype = _check_batch(student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        with torch.no_grad():
            target = _angles(teacher.detach().to(dtype))
        return F.smooth_l1_loss(_angles(student.to(dtype)), target)


def _check_batch(student: Tensor, teacher: Tensor) -> torch.dtype:
    """As :func:`check_rows`, but widths may differ."""
    return check_rows(student[:, :1], teacher[:, :1])


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Weighted sum of :func:`relation_distance` and :func:`relation_angle`.

    Args:
        distance_weight, angle_weight: factors >= 0. Defaults to 1 each, as
            DisCo compares it; the paper of RKD has 1 and 2.

    Raises:
        ValueError: for a negative factor, or two zeros.
    """

    def __init__(
        self, distance_weight: float = 1.0, angle_weight: float = 1.0
    ) -> None:
        super().__init__()
        if min(distance_weight, angle_weight) < 0 or not (
            distance_weight or angle_weight
        ):
            raise ValueError(
                f'distance_weight={distance_weight}, angle_weight='
                f'{angle_weight}: must be >= 0 and not both 0'
            )
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the scalar loss."""
        total = student.new_zeros((), dtype=_check_batch(student, teacher))
        if self.distance_weight:
            distance = relation_distance(student, teacher)
            total = total + self.distance_weight * distance
        if self.angle_weight:
            total = total + self.angle_weight * relation_angle(
                student, teacher
            )
        return total
