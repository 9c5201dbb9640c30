"""Attention maps of the backbones: AT."""

from collections.abc import Sequence

from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.attention_transfer import attention_transfer
from ..utils.plan import SetupError
from ..utils.step import Needs, Step
from .base_head import DistillHead

MAPS = 'featmap'  # what transformers of mmpretrain call it


def _no_maps(whose: str) -> str:
    return (
        f'AttentionTransferHead compares maps (N, C, H, W), but the {whose} '
        f'gives vectors or tokens: set its out_type={MAPS!r}, if it has one, '
        'or take another backbone'
    )


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
        ValueError: for no stage or a negative factor; for a backbone that
            gives vectors or tokens instead of maps, when the model is built
            if its ``out_type`` tells, else in training; in training, for a
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

    def check_networks(self, student, teacher) -> None:
        """Refuse transformers that are set to give no maps."""
        for name, backbone in (('student', student), ('teacher', teacher)):
            kind = getattr(backbone, 'out_type', MAPS)
            if kind != MAPS:
                raise ValueError(
                    _no_maps(
                        f'backbone of the {name}, {type(backbone).__name__} '
                        f'with out_type={kind!r},'
                    )
                )

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
                shape = tuple(outputs[stage].shape)
                if len(shape) != 4:
                    raise SetupError(
                        _no_maps(f'backbone of the {name}')
                        + f' (stage {stage} has shape {shape})'
                    )
        total = sum(
            attention_transfer(maps['student'][stage], maps['teacher'][stage])
            for stage in self.stages
        )
        return {'loss_attention': self.weight * total / len(self.stages)}
