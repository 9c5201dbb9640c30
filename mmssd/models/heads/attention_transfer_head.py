"""Attention maps of the backbones: AT."""

from collections.abc import Sequence

from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.attention_transfer import attention_transfer
from ..utils.plan import SetupError
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class AttentionTransferHead(DistillHead):
    """Attention maps of chosen stages, first crop.

    :func:`~mmssd.models.losses.attention_transfer`, mean over the stages
    (`AT <https://arxiv.org/abs/1612.03928>`_). Stages count among those
    that the backbones give (their ``out_indices``).

    Logged term: ``loss_attention``.

    Args:
        stages (Sequence[int]): of the student's and the teacher's outputs;
            negative ones count from the end. Defaults to the last.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for no stage or a negative factor; in training, for a
            stage that a backbone does not give or maps that do not agree.
    """

    needs = Needs(
        student={'feature_maps'},
        teacher={'feature_maps'},
        student_views=(0,),
        teacher_views=(0,),
    )

    def __init__(
        self,
        stages: Sequence[int] = (-1,),
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not stages:
            raise ValueError('stages is empty: name at least one')
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.stages = tuple(stages)
        self.weight = weight

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_attention``."""
        maps = {
            'student': step.student.feature_maps[0],
            'teacher': step.teacher.feature_maps[0],
        }
        for name, outputs in maps.items():
            for stage in self.stages:
                if not -len(outputs) <= stage < len(outputs):
                    raise SetupError(
                        f'stages={self.stages}, but the backbone of the '
                        f'{name} gives {len(outputs)} output(s): set its '
                        'out_indices'
                    )
        total = sum(
            attention_transfer(maps['student'][stage], maps['teacher'][stage])
            for stage in self.stages
        )
        return {'loss_attention': self.weight * total / len(self.stages)}
