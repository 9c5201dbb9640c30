"""Supervised training under a teacher."""

import math

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.input_statistics import input_statistics
from ..utils.plan import SetupError, TrainingPlan
from ..utils.progress import training_progress
from ..utils.step import NETWORKS, Encodings, Needs, Step, pool_features
from .distiller import build_heads, fields_of
from .encodings import encode, merge_needs, run_backbone

# What a classifier has; its neck pools, so there are no embeddings.
FIELDS = frozenset({'features', 'feature_maps', 'pre_relu_maps', 'logits'})


def count_classes(head: nn.Module) -> int | None:
    """How many classes a classification head scores, if it can be told."""
    linear = [m for m in head.modules() if isinstance(m, nn.Linear)]
    last = linear[-1].out_features if linear else None
    return getattr(head, 'num_classes', last)


@MODELS.register_module()
class DistillClassifier(ImageClassifier):
    r"""An image classifier that a frozen teacher helps to learn.

    .. math::
        L = w\, L_{\text{labels}} + \sum_{\text{heads}} L_{\text{head}},
        \qquad w = \prod_{\text{heads}} w_{\text{head}}

    The student is an ``ImageClassifier`` of mmpretrain, with its keys in the
    checkpoint; :math:`w_{\text{head}}` is 1 unless a head says otherwise
    (``label_weight``: KD has :math:`1 - \alpha`). "Distilling Visual Priors
    from Self-Supervised Learning" (https://arxiv.org/abs/2008.00261, phase 2)
    is ``OverhaulHead``; KD at fine-tuning is ``LogitHead``. Each network runs
    once, for what the heads that have started ask for; the teacher sees the
    student's images (after mixup and its like).

    Logged terms: ``loss_labels`` and ``<head>.loss_<term>``.

    Args:
        backbone (dict | nn.Module): of the student.
        neck (dict | nn.Module, optional): such as
            ``GlobalAveragePooling``.
        head (dict | nn.Module): the classification head.
        teacher (dict | nn.Module): arguments of a frozen ``Teacher``
            (``type`` may be left out); with ``head`` if logits are asked for.
        distill_heads (dict): objectives by name.
        freeze_backbone (bool): train ``head`` and the objectives only: the
            backbone stays in evaluation mode, without gradient. Defaults to
            False.
        pretrained (str, optional): see ``ImageClassifier``.
        train_cfg (dict, optional): see there.
        data_preprocessor (dict, optional): see there.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: if there is no classification head, no objective or no
            frozen teacher, or an objective asks for what the networks do
            not give, or does not fit them (classes, stages, sizes of maps).
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None = None,
        head: dict | nn.Module | None = None,
        teacher: dict | nn.Module | None = None,
        distill_heads: dict | None = None,
        freeze_backbone: bool = False,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if head is None:
            raise ValueError(
                'DistillClassifier learns labels: give model.head=dict('
                "type='LinearClsHead', num_classes=..., in_channels=...)"
            )
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            pretrained=pretrained,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if isinstance(teacher, dict):
            try:
                teacher = MODELS.build({'type': 'Teacher', **teacher})
            except (TypeError, ValueError) as error:
                raise type(error)(f'model.teacher: {error}') from error
        if teacher is None or not teacher.frozen:
            raise ValueError(
                'DistillClassifier needs a frozen teacher: give '
                'model.teacher=dict(backbone=..., checkpoint=...)'
            )
        if getattr(teacher, 'cache', None):
            raise ValueError(
                f'model.teacher.cache={teacher.cache!r}: a cache is for the '
                'teacher of a Distiller'
            )
        self.teacher = teacher
        if hasattr(teacher, 'match_input'):
            try:
                teacher.match_input(input_statistics(data_preprocessor))
            except ValueError as error:
                raise ValueError(f'model.teacher: {error}') from error
        self.distill_heads = build_heads(distill_heads or {}, 'distill_heads')
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self.backbone.requires_grad_(False)
            self.backbone.eval()
        self._check_needs()

    def _check_needs(self) -> None:
        for name, head in self.distill_heads.items():
            where = f'distill_heads.{name} ({type(head).__name__})'
            unknown = fields_of(head.needs) - FIELDS
            if unknown:
                raise ValueError(
                    f'{where} asks for {sorted(unknown)}; a DistillClassifier '
                    f'gives {sorted(FIELDS)} only'
                )
            if head.needs.momentum or head.needs.min_global > 1:
                raise ValueError(
                    f'{where} needs a momentum student or several crops of '
                    'an image: it is for the self-supervised Distiller'
                )
            if 'teacher' in getattr(head, 'trained', ()):
                raise ValueError(
                    f'{where} trains the teacher, which is frozen here'
                )
            if 'logits' in head.needs.teacher and self.teacher.head is None:
                raise ValueError(
                    f'{where} needs the logits of the teacher: give '
                    'model.teacher.head, the classification head in its file'
                )
            if hasattr(head, 'check_networks'):
                try:
                    head.check_networks(self.backbone, self.teacher.backbone)
                except ValueError as error:
                    raise ValueError(f'{where}: {error}') from error
            if {'logits'} <= head.needs.student & head.needs.teacher:
                self._check_classes(where)
            if self.freeze_backbone and 'logits' not in head.needs.student:
                raise ValueError(
                    f'{where} teaches the backbone, which is frozen '
                    '(freeze_backbone=True): only an objective of logits '
                    'reaches the classification head'
                )
        if not any(h.needs.teacher for h in self.distill_heads.values()):
            raise ValueError(
                'the config has a teacher, but none of distill_heads reads it'
            )

    def _check_classes(self, where: str) -> None:
        student, teacher = (
            count_classes(network.head) for network in (self, self.teacher)
        )
        if None not in (student, teacher) and student != teacher:
            raise ValueError(
                f'{where}: model.head scores {student} classes, '
                f'model.teacher.head {teacher}: logits are compared class by '
                'class, so give a teacher trained on the classes of the data '
                '(head.num_classes of both equal)'
            )

    def check(self, plan: TrainingPlan) -> None:
        """Refuse a training that cannot work, before it starts.

        Args:
            plan: numbers of the training.

        Raises:
            SetupError: naming value and remedy.
        """
        if plan.num_views is not None and plan.num_views != 1:
            raise SetupError(
                f'{plan.num_views} views of an image: DistillClassifier '
                'takes one, leave MultiView out of the pipeline'
            )
        for head in self.distill_heads.values():
            if hasattr(head, 'check'):
                head.check(plan)

    def init_weights(self) -> None:
        """Initialise all parts; the teacher loads its own checkpoint.

        Then the heads take what they need from the teacher.
        """
        super().init_weights()
        for head in self.distill_heads.values():
            if hasattr(head, 'prepare'):
                head.prepare(self.teacher)

    def train(self, mode: bool = True) -> 'DistillClassifier':
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        return self

    def _classify(
        self, images: Tensor, data_samples: list, fields: frozenset[str]
    ) -> tuple[dict[str, Tensor], Encodings]:
        """Run the student: the terms of its labels, and its encodings."""
        training = torch.is_grad_enabled() and not self.freeze_backbone
        with torch.set_grad_enabled(training):
            output, taps = run_backbone(self.backbone, images, fields)
        feats = self.neck(output) if self.with_neck else output
        logits: list[Tensor] = []
        # the logits of the same call: its dropout is drawn once
        hook = self.head.register_forward_hook(
            lambda module, args, scores: logits.append(scores)
        )
        try:
            terms = self.head.loss(feats, data_samples)
        finally:
            hook.remove()
        encodings = Encodings()
        if 'features' in fields:
            encodings.features = [pool_features(output)]
        if 'feature_maps' in fields:
            stages = output if isinstance(output, tuple) else (output,)
            encodings.feature_maps = [stages]
        if 'pre_relu_maps' in fields:
            encodings.pre_relu_maps = [taps]
        if 'logits' in fields:
            encodings.logits = logits[-1:] or [self.head(feats)]
        return terms, encodings

    def _teach(self, images: Tensor, fields: frozenset[str]) -> Encodings:
        teacher = self.teacher
        if hasattr(teacher, 'ensure_loaded'):
            teacher.ensure_loaded()
        views = [images]
        if hasattr(teacher, 'adapt'):
            views = teacher.adapt(views)
        with torch.no_grad():
            return encode(
                teacher.backbone,
                teacher.neck,
                views,
                fields,
                head=teacher.head,
            )

    def loss(
        self, inputs: Tensor, data_samples: list | None = None
    ) -> dict[str, Tensor]:
        """Return the terms of the labels and of all heads for one batch.

        Args:
            inputs: ``(N, 3, H, W)``.
            data_samples: with the labels.

        Returns:
            ``loss_labels``, other results of the classification head under
            its names, and ``<head>.loss_<term>``.
        """
        active = [h for h in self.distill_heads.values() if h.active]
        needs = merge_needs([head.needs for head in active] or [Needs()])
        terms, student = self._classify(inputs, data_samples, needs.student)
        encodings = dict.fromkeys(NETWORKS)
        encodings['student'] = student
        if needs.teacher:
            encodings['teacher'] = self._teach(inputs, needs.teacher)
        step = Step(
            **encodings,
            data_samples=data_samples,
            progress=training_progress(),
        )
        weight = math.prod(head.label_weight for head in active)
        losses = {
            # mmengine calls the sum of all terms 'loss'
            ('loss_labels' if key == 'loss' else key): (
                value * weight if 'loss' in key else value
            )
            for key, value in terms.items()
        }
        with torch.autocast(inputs.device.type, enabled=False):
            for name, head in self.distill_heads.items():
                for key, value in head.loss(step).items():
                    losses[f'{name}.{key}'] = value
        return losses
