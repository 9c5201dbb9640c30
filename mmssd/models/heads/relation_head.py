"""Relations of a batch: RKD."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.relation import RelationLoss, relation_angle, relation_distance
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class RelationHead(DistillHead):
    """Distances and angles between the images of a batch.

    :func:`~mmssd.models.losses.relation_distance` and
    :func:`~mmssd.models.losses.relation_angle` of the unit embeddings of
    the first crop (`RKD <https://arxiv.org/abs/1904.05068>`_, as DisCo
    compares it). Relations are those of the images of one process, so the
    terms change with the number of processes at equal global batch.

    Logged terms: ``loss_distance``, ``loss_angle``.

    Args:
        distance_weight, angle_weight (float): factors. Defaults to 1 each;
            0 leaves a term out.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for a negative factor, or two zeros.
    """

    needs = Needs(
        student={'embeddings'},
        teacher={'embeddings'},
        student_views=(0,),
        teacher_views=(0,),
    )

    def __init__(
        self,
        distance_weight: float = 1.0,
        angle_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        checked = RelationLoss(distance_weight, angle_weight)
        self.factors = {
            'loss_distance': (relation_distance, checked.distance_weight),
            'loss_angle': (relation_angle, checked.angle_weight),
        }

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the terms that have a factor."""
        rows = [s.embeddings[0] for s in (step.student, step.teacher)]
        dtype = torch.promote_types(rows[0].dtype, torch.float32)
        student, teacher = (F.normalize(r.to(dtype), dim=1) for r in rows)
        return {
            name: weight * function(student, teacher)
            for name, (function, weight) in self.factors.items()
            if weight
        }
