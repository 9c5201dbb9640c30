"""Pre-ReLU maps of all stages: OFD, Distilling Visual Priors phase 2."""

import math
from collections.abc import Sequence

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.partial_l2 import feature_l2, partial_l2
from ..utils.batchnorm_margin import batchnorm_margin
from ..utils.plan import SetupError
from ..utils.pre_relu import PROBE_SIDE, pre_relu_sizes, pre_relu_stages
from ..utils.step import Needs, Step
from .delayed_head import DelayedHead

DISTANCES = ('partial', 'l2')


def _connector(student: int, teacher: int) -> nn.Sequential:
    conv = nn.Conv2d(student, teacher, 1, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / teacher))
    return nn.Sequential(conv, nn.BatchNorm2d(teacher))


@MODELS.register_module()
class OverhaulHead(DelayedHead):
    r"""Pull the student's pre-ReLU maps to the teacher's, at every stage.

    .. math::
        L = \lambda \sum_{l=1}^{S} 2^{-(S-l)}
        d_p\big(\max(F_t^l, m^l), r^l(F_s^l)\big)

    `A Comprehensive Overhaul of Feature Distillation
    <https://arxiv.org/abs/1904.01866>`_ (OFD), as "Distilling Visual Priors
    from Self-Supervised Learning" (https://arxiv.org/abs/2008.00261) uses it
    in its second phase. :math:`d_p` is
    :func:`~mmssd.models.losses.partial_l2`, a sum over C, H and W and a mean
    over images; m are the margins of the teacher's last batch norm of the
    stage (:func:`~mmssd.models.utils.batchnorm_margin`), taken once; the
    connectors r, a 1x1 convolution without bias and a batch norm, are
    trained, used even between equal widths, and kept in the checkpoint.

    Logged term: ``loss_overhaul``.

    Args:
        student_channels (Sequence[int]): widths of the student's stages,
            such as (64, 128, 256, 512) of a ResNet-18.
        teacher_channels (Sequence[int]): those of the teacher's.
        weight (float): :math:`\lambda`. Defaults to 1e-4, the published one,
            for the sum over the elements of 224 px images.
        stage_weights (Sequence[float], optional): instead of
            :math:`2^{-(S-l)}` (1/8, 1/4, 1/2, 1).
        distance (str): ``'partial'``, or ``'l2'``: without margins and
            counting all elements, as eq. 4 of Visual Priors is printed.
        reference_sizes (Sequence[int], optional): side of the maps that
            ``weight`` is meant for; (56, 28, 14, 7) are those of 224 px
            images. The sum over H and W of a stage becomes that many
            squared times the mean. ``None`` for the published sum, by which
            the same weight counts four times as much at 448 px.
        start (int | dict): see :class:`DelayedHead`; Visual Priors has
            ``dict(epochs=4)``.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range, or networks whose stages
            differ in number, width or stride; in training, for maps of
            unlike size (a teacher with an ``input_size`` of its own).
    """

    needs = Needs(
        student={'pre_relu_maps'},
        teacher={'pre_relu_maps'},
        teacher_views='global',
    )
    term = 'loss_overhaul'

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        weight: float = 1e-4,
        stage_weights: Sequence[float] | None = None,
        distance: str = 'partial',
        reference_sizes: Sequence[int] | None = None,
        start: int | dict = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(start=start, init_cfg=init_cfg)
        number = len(student_channels)
        if not number or number != len(teacher_channels):
            raise ValueError(
                f'student_channels={tuple(student_channels)} and '
                f'teacher_channels={tuple(teacher_channels)}: OFD pairs '
                'stages one to one, give as many of both'
            )
        if stage_weights is None:
            stage_weights = [2.0 ** (i + 1 - number) for i in range(number)]
        for name, values, least in (
            ('stage_weights', stage_weights, 0),
            ('reference_sizes', reference_sizes or [1] * number, 1),
        ):
            if len(values) != number or min(values) < least:
                raise ValueError(
                    f'{name}={tuple(values)}: must be {number} numbers >= '
                    f'{least}, one per stage'
                )
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        if distance not in DISTANCES:
            raise ValueError(
                f'distance={distance!r}: must be one of {DISTANCES}'
            )
        self.student_channels = tuple(student_channels)
        self.teacher_channels = tuple(teacher_channels)
        self.weight = weight
        self.stage_weights = tuple(stage_weights)
        self.distance = distance
        self.reference_sizes = reference_sizes and tuple(reference_sizes)
        self.connectors = nn.ModuleList(
            _connector(s, t)
            for s, t in zip(student_channels, teacher_channels, strict=True)
        )
        for index, width in enumerate(teacher_channels):
            self.register_buffer(f'margin_{index}', torch.zeros(width))
        self._prepared = False

    @property
    def margins(self) -> list[Tensor]:
        """Margins of the stages, ``(C,)`` each."""
        return [
            self.get_buffer(f'margin_{index}')
            for index in range(len(self.connectors))
        ]

    def check_networks(self, student, teacher) -> None:
        """Compare the stages of the backbones with the connectors.

        Number, width and, by a pass of shapes alone, size of the maps.
        """
        widths = {}
        for name, backbone in (('student', student), ('teacher', teacher)):
            stages = pre_relu_stages(backbone)
            widths[name] = tuple(stage.channels for stage in stages)
        if len(widths['student']) != len(widths['teacher']):
            raise ValueError(
                f'the student has {len(widths["student"])} stages, the '
                f'teacher {len(widths["teacher"])}: OFD pairs stages one to '
                'one; choose networks with as many'
            )
        for name, found in widths.items():
            given = getattr(self, f'{name}_channels')
            if found != given:
                raise ValueError(
                    f'{name}_channels={given} of OverhaulHead, but the '
                    f'stages of the {name} have widths {found}: set it so'
                )
        sizes = [pre_relu_sizes(network) for network in (student, teacher)]
        for index, (own, other) in enumerate(zip(*sizes, strict=True)):
            if own != other:
                raise ValueError(
                    f'stage {index + 1}: of an image of {PROBE_SIDE} pixels '
                    f'the map of the student is {own}, that of the teacher '
                    f'{other}: OFD needs networks of equal strides; make '
                    'strides (and deep_stem) of model.backbone and '
                    'model.teacher.backbone agree'
                )

    @torch.no_grad()
    def prepare(self, teacher) -> None:
        """Take the margins from the teacher's batch norms."""
        stages = pre_relu_stages(teacher.backbone)
        for stage, margin in zip(stages, self.margins, strict=True):
            norm = stage.norm
            if not norm.affine:
                raise ValueError(
                    f'the last batch norm of {stage.name} of the teacher '
                    'has no affine parameters, which give the margins of OFD'
                )
            margin.copy_(batchnorm_margin(norm.weight, norm.bias))
        self._prepared = True

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._prepared |= f'{prefix}margin_0' in state_dict

    def layers(self, step: Step) -> list[Tensor]:
        """Return the student's maps after the connectors, first view.

        The student's transform of OFD, which comes before its distance.
        """
        return [
            connector(student.to(connector[0].weight.dtype))
            for connector, student in zip(
                self.connectors, step.student.pre_relu_maps[0], strict=True
            )
        ]

    def distill(self, step: Step) -> Tensor:
        """Return the weighted sum over the stages, first view."""
        if not self._prepared:
            raise RuntimeError(
                'OverhaulHead has no margins yet: call init_weights() of the '
                'model first (the runner does so before training)'
            )
        total = self.connectors[0][0].weight.new_zeros(())
        for index, (student, teacher) in enumerate(
            zip(self.layers(step), step.teacher.pre_relu_maps[0], strict=True)
        ):
            if student.shape[2:] != teacher.shape[2:]:
                raise SetupError(
                    f'stage {index + 1}: the map of the student is '
                    f'{tuple(student.shape[2:])} pixels, that of the teacher '
                    f'{tuple(teacher.shape[2:])}: OFD needs networks of '
                    'equal strides, and images of equal size (leave '
                    'teacher.input_size out)'
                )
            factor = self.stage_weights[index]
            if self.reference_sizes is not None:
                area = student.size(2) * student.size(3)
                factor *= self.reference_sizes[index] ** 2 / area
            if self.distance == 'l2':
                loss = feature_l2(student, teacher)
            else:
                loss = partial_l2(student, teacher, self.margins[index])
            total = total + factor * loss
        return self.weight * total
