"""The self-supervised distillation algorithm."""

import torch
from mmengine.logging import MMLogger
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.input_statistics import input_statistics
from ..utils.plan import SetupError, TrainingPlan
from ..utils.progress import (
    begins_update,
    ends_update,
    training_progress,
)
from ..utils.step import NETWORKS, Needs, Step
from ..utils.view_draws import view_keys
from .encodings import Encodings, encode, merge_needs, view_indices
from .momentum import MomentumStudent


def build_heads(heads: dict, place: str = 'heads') -> nn.ModuleDict:
    """Build named objectives.

    Args:
        heads: configs or modules by name.
        place: where they stand in the config of the model, for messages.

    Raises:
        ValueError: if there is none, or a name contains ``loss`` (mmengine
            would sum the head's diagnostics) or a dot.
        TypeError: if ``heads`` is not a dict of configs or modules.
    """
    if not isinstance(heads, dict):
        raise TypeError(
            f'{place} must be a dict of named head configs, such as '
            "dict(clustering=dict(type='OnlineClusteringHead')), got "
            f'{type(heads).__name__}'
        )
    if not any(head is not None for head in heads.values()):
        raise ValueError(f'{place} is empty: a distiller needs an objective')
    built = nn.ModuleDict()
    for name, head in heads.items():
        if head is None:  # a child config takes a head of its base away
            continue
        if 'loss' in name or '.' in name:
            raise ValueError(
                f'head name {name!r}: must contain neither "loss" nor "."'
            )
        if not isinstance(head, nn.Module):
            try:
                head = MODELS.build(head)
            except (TypeError, ValueError) as error:
                kind = head.get('type', '')
                raise type(error)(
                    f'model.{place}.{name} ({kind}): {error}'
                ) from error
        built[name] = head
    return built


def fields_of(needs: Needs) -> frozenset[str]:
    """All fields that some network is asked for."""
    return frozenset().union(*(getattr(needs, name) for name in NETWORKS))


def neck_widths(neck: nn.Module | None) -> tuple[int | None, int | None]:
    """Width of what a projector takes and of what it gives, if known."""
    if neck is None:
        return None, None
    linear = [m for m in neck.modules() if isinstance(m, nn.Linear)]
    first = linear[0].in_features if linear else None
    last = linear[-1].out_features if linear else None
    return (
        getattr(neck, 'in_channels', first),
        getattr(neck, 'out_channels', last),
    )


def _restart_momentum(distiller: 'Distiller', incompatible) -> None:
    """Let the average begin at a student that was loaded without it.

    Weights to start from are loaded after ``init_weights()``, so the average
    would be that of other weights. A hook of ``load_state_dict`` and of
    mmengine's own traversal; what is missing stays reported.
    """
    momentum = distiller.momentum
    if momentum is None or momentum.complete:
        return
    momentum.copy_from(distiller, distiller._averaged())
    momentum.complete = True
    MMLogger.get_current_instance().warning(
        'the loaded weights have no whole momentum student: it starts as a '
        'copy of the student'
    )


@MODELS.register_module()
class Distiller(BaseSelfSupervisor):
    r"""A set of objectives over what two or three networks see.

    The **student** is ``backbone`` + ``neck`` at the top level of the
    checkpoint, so that every transfer config finds it by
    ``prefix='backbone.'``. The **teacher** is absent, frozen or trained in
    the same run. The **momentum student** is absent or an average of the
    student. Each **head** is one objective with its own state; the total
    loss is the sum of the ``<head>.loss_<term>`` of all heads.

    Loading weights without a (whole) momentum student, as ``load_from`` of
    an exported student does, makes it a copy of the student anew.

    In a step every network runs once per resolution, and only for what
    some head asks for. The momentum student is updated before it encodes,
    and with it what heads keep averages of.

    Args:
        backbone (dict): the student's backbone.
        neck (dict, optional): the student's projector; without one the
            embeddings are the pooled features.
        heads (dict): objectives by name.
        teacher (dict, optional): a :class:`Teacher` (``type`` may be left
            out).
        momentum (dict | float, optional): arguments of the momentum student
            (``decay``, ``final_decay``, ``shuffle``), or its decay; ``None``
            for none.
        data_preprocessor (dict, optional): see ``SelfSupDataPreprocessor``
            of mmpretrain and ``MultiCropPreprocessor``.
        num_global (int, optional): number of global crops. By default all
            leading views that are as large as the first.
        separate_views (bool): run every view in a batch of its own, so that
            batch norms in training mode see one view at a time, as in the
            code of MoCo and DisCo. Defaults to False: views of equal
            resolution together, as SwAV.
        channels_last (bool): run the networks in channels-last memory
            format. Changes speed, not results; False for a backbone that
            flattens maps by ``view``, which torch then refuses ("view size
            is not compatible"). Defaults to True.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: if a head needs a network, a projector output or views
            that are not there, or widths of embeddings differ.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module | None = None,
        heads: dict | None = None,
        teacher: dict | nn.Module | None = None,
        momentum: dict | float | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        num_global: int | None = None,
        separate_views: bool = False,
        channels_last: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if isinstance(teacher, dict):
            try:
                teacher = MODELS.build({'type': 'Teacher', **teacher})
            except (TypeError, ValueError) as error:
                raise type(error)(f'model.teacher: {error}') from error
        self.teacher = teacher
        if hasattr(teacher, 'match_input'):
            try:
                teacher.match_input(input_statistics(data_preprocessor))
            except ValueError as error:
                raise ValueError(f'model.teacher: {error}') from error
        if isinstance(momentum, (int, float)):
            momentum = dict(decay=momentum)
        self.momentum = (
            None
            if momentum is None
            else MomentumStudent(self.backbone, self.neck, **momentum)
        )
        self.heads = build_heads(heads or {})
        if num_global is not None and num_global < 1:
            raise ValueError(f'num_global={num_global}: must be >= 1')
        self.num_global = num_global
        self.separate_views = separate_views
        self._accumulation = 1
        self.channels_last = channels_last
        self.register_load_state_dict_post_hook(_restart_momentum)
        self.needs = self._check_needs()
        if channels_last:
            for network in (self, self.teacher, self.momentum):
                if network is not None:
                    network.backbone.to(memory_format=torch.channels_last)

    def _network(self, name: str) -> nn.Module | None:
        return self if name == 'student' else getattr(self, name)

    def _check_needs(self) -> Needs:
        remedies = {
            'teacher': 'give model.teacher=dict(backbone=..., ...)',
            'momentum': 'give model.momentum=dict(decay=0.999)',
        }
        for name, head in self.heads.items():
            needs = head.needs
            for network_name in NETWORKS:
                called = network_name
                if network_name == 'momentum':
                    called = 'momentum student'
                fields = getattr(needs, network_name)
                if not fields:
                    continue
                network = self._network(network_name)
                where = f'head {name!r} ({type(head).__name__})'
                if network is None:
                    raise ValueError(
                        f'{where} needs a {called}, but the config '
                        f'has none: {remedies[network_name]}'
                    )
                if 'dropout_embeddings' in fields and not hasattr(
                    network.neck, 'forward_views'
                ):
                    raise ValueError(
                        f'{where} needs dropout views of the {called},'
                        f' but its neck is {type(network.neck).__name__}: '
                        'use DropoutProjectionNeck'
                    )
            if hasattr(head, 'check_networks'):
                head.check_networks(
                    self.backbone, getattr(self.teacher, 'backbone', None)
                )
            trained = getattr(head, 'trained', ('student',))
            if 'logits' in fields_of(needs):
                raise ValueError(
                    f'head {name!r} ({type(head).__name__}) needs logits, '
                    'which no network of a Distiller gives: it is for '
                    'DistillClassifier'
                )
            if 'teacher' in trained and getattr(self.teacher, 'frozen', False):
                raise ValueError(
                    f'head {name!r} trains the teacher, but the teacher is '
                    "frozen: set train=('student',) in the head or "
                    'frozen=False in the teacher'
                )
        self._check_widths()
        return merge_needs([head.needs for head in self.heads.values()])

    def _check_use(self) -> None:
        """Refuse networks that would be there for nothing."""
        heads = self.heads.values()
        for name in ('teacher', 'momentum'):
            if self._network(name) is not None and not any(
                getattr(head.needs, name) for head in heads
            ):
                raise SetupError(
                    f'the config has a {name}, but no head reads it: leave '
                    f'model.{name} out, or give a head that does'
                )
        projected = {'embeddings', 'dropout_embeddings'}
        if self.neck is not None and not self.needs.student & projected:
            raise SetupError(
                'the student has a neck, but no head reads its embeddings: '
                'set model.neck=None'
            )
        if self.teacher is None or getattr(self.teacher, 'frozen', True):
            return
        if not any('teacher' in getattr(h, 'trained', ()) for h in heads):
            raise SetupError(
                'the teacher is online (frozen=False), but no head trains '
                "it: give train=('teacher', 'student') to its head, or a "
                'checkpoint and frozen=True to the teacher'
            )

    def check(self, plan: TrainingPlan) -> None:
        """Refuse a training that cannot work, before it starts.

        Args:
            plan: numbers of the training.

        Raises:
            SetupError: naming value and remedy.
        """
        self._accumulation = plan.accumulation
        self._check_use()
        if plan.num_views is not None:
            self._check_views(plan.num_views, plan.num_views)
        if getattr(self.teacher, 'cache', None):
            self.teacher.open_cache(plan.dataset, self.data_preprocessor)
        for head in self.heads.values():
            if hasattr(head, 'check'):
                head.check(plan)

    def _check_widths(self) -> None:
        """Compare projector widths of teacher, student and heads."""
        widths = {
            name: neck_widths(self._network(name).neck)[1]
            for name in ('student', 'teacher')
            if self._network(name) is not None
            and self._network(name).neck is not None
        }
        for name, head in self.heads.items():
            if hasattr(head, 'check_widths'):
                try:
                    head.check_widths(
                        widths.get('student'), widths.get('teacher')
                    )
                except ValueError as error:
                    raise ValueError(f'head {name!r}: {error}') from error
            wanted = getattr(head, 'embed_dim', None)
            for network, width in widths.items():
                used = 'embeddings' in getattr(head.needs, network)
                if wanted and width and used and wanted != width:
                    raise ValueError(
                        f'head {name!r} works on embeddings of width '
                        f'{wanted}, but the neck of the {network} gives '
                        f'{width}: make neck.out_channels of student and '
                        'teacher and embed_dim of the head equal'
                    )

    def _averaged(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of average and source that heads have."""
        return [
            pair
            for head in self.heads.values()
            for pair in getattr(head, 'averaged', ())
        ]

    def init_weights(self) -> None:
        """Initialise all parts, then what depends on others.

        The teacher loads its own checkpoint; the momentum student becomes a
        copy of the initialised student; heads take what they need from the
        teacher.
        """
        super().init_weights()
        if self.momentum is not None:
            self.momentum.copy_from(self, self._averaged())
        if self.teacher is not None:
            for head in self.heads.values():
                if hasattr(head, 'prepare'):
                    head.prepare(self.teacher)

    def encode(
        self,
        name: str,
        views: list[Tensor],
        num_global: int,
        keys: Tensor | None = None,
    ) -> Encodings | None:
        """Run one network for what the heads ask of it.

        Args:
            name: ``'student'``, ``'teacher'`` or ``'momentum'``.
            views: V tensors ``(N, 3, H, W)``, global crops first.
            num_global: how many of them are global.
            keys: ``(N, 3)`` of seeded views, for a teacher with a cache.

        Returns:
            Encodings, without gradient for a frozen or momentum network;
            ``None`` if no head needs the network.
        """
        fields = getattr(self.needs, name)
        if not fields:
            return None
        network = self._network(name)
        indices = view_indices(
            getattr(self.needs, f'{name}_views'), len(views), num_global
        )
        if name == 'teacher' and getattr(network, 'cache', None):
            return network.look_up(
                keys, fields, indices, views[0].device
            ).placed(indices)
        views = [views[index] for index in indices]
        # nothing is shared between rows in evaluation mode
        separate = self.separate_views and network.training

        def run(views: list[Tensor]) -> Encodings:
            return encode(
                network.backbone, network.neck, views, fields, separate
            )

        fixed = name == 'momentum' or getattr(network, 'frozen', False)
        if name == 'teacher' and fixed and hasattr(network, 'ensure_loaded'):
            network.ensure_loaded()
        if name == 'teacher' and hasattr(network, 'adapt'):
            views = network.adapt(views)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
            try:
                if name == 'momentum':
                    encodings = network.encode(views, run)
                else:
                    encodings = run(views)
                return encodings.placed(indices)
            except RuntimeError as error:
                width = neck_widths(network.neck)[0]
                if width is None or 'mat1 and mat2' not in str(error):
                    raise
                raise SetupError(
                    f'the neck of the {name} does not fit its backbone, '
                    f'whose pooled features are not {width} wide: set its '
                    f'in_channels ({error})'
                ) from error

    def _count_global(self, views: list[Tensor]) -> int:
        num_global = self.num_global
        if num_global is None:
            num_global = 0
            while (
                num_global < len(views)
                and views[num_global].shape == views[0].shape
            ):
                num_global += 1
            if num_global == len(views) > 2:
                raise SetupError(
                    f'{len(views)} views, all of {tuple(views[0].shape[2:])} '
                    'pixels: which of them are global crops cannot be told '
                    'by their size; set model.num_global'
                )
        elif num_global > len(views):
            raise SetupError(
                f'num_global={num_global} of the model, but the batch has '
                f'{len(views)} view(s): lower num_global or add views in '
                'the data pipeline'
            )
        self._check_views(len(views), num_global)
        return num_global

    def _check_views(self, number: int, num_global: int) -> None:
        least = self.needs.min_global
        if num_global < least:
            needing = [
                name
                for name, head in self.heads.items()
                if head.needs.min_global == least
            ]
            raise SetupError(
                f'head(s) {needing} need {least} global crops, but there '
                f'are {number} view(s), {num_global} of them '
                'global: add views of the largest size first in the data '
                'pipeline (MultiView or MultiCropPreprocessor)'
            )

    def loss(
        self,
        inputs: list[Tensor] | Tensor,
        data_samples: list | None = None,
    ) -> dict[str, Tensor]:
        """Return the terms of all heads for one batch.

        Args:
            inputs: V views ``(N, 3, H, W)``, global crops first.
            data_samples: labels and meta data, passed on to the heads.

        Returns:
            ``{'<head>.<term>': scalar}``.

        Raises:
            ValueError: if the views do not suffice for a head.
        """
        views = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        num_global = self._count_global(views)
        if self.channels_last:
            views = [
                v.contiguous(memory_format=torch.channels_last) for v in views
            ]
        progress = training_progress()
        if (
            self.momentum is not None
            and self.training
            # once for every update of what it averages
            and begins_update(self._accumulation)
        ):
            self.momentum.update(self, progress, self._averaged())
        keys = view_keys(data_samples)
        step = Step(
            **{
                name: self.encode(name, views, num_global, keys)
                for name in NETWORKS
            },
            data_samples=data_samples,
            num_global=num_global,
            progress=progress,
            ends_update=ends_update(self._accumulation),
        )
        terms = {}
        with torch.autocast(views[0].device.type, enabled=False):
            for name, head in self.heads.items():
                for key, value in head.loss(step).items():
                    terms[f'{name}.{key}'] = value
        return terms
