"""Similarity distributions over a queue: SEED and CompRess."""

import torch
import torch.nn.functional as F
from mmengine import dist
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.similarity_distillation import compress, similarity_distillation
from ..losses.swapped_prediction import check_temperature
from ..utils.feature_queue import FeatureQueue
from ..utils.plan import SetupError, TrainingPlan
from ..utils.step import Needs, Step
from .base_head import DistillHead

# objective -> temperatures of student and teacher, content of a new queue
DEFAULTS = {
    'seed': ((0.2, 0.01), 'unit'),
    'compress': ((0.04, 0.04), 'uniform'),
}
QUEUES = ('teacher', 'student', 'momentum')


@MODELS.register_module()
class SimilarityQueueHead(DistillHead):
    r"""Make the student as similar to earlier images as the teacher is.

    * ``objective='seed'``: `SEED <https://arxiv.org/abs/2101.04731>`_,
      :func:`~mmssd.models.losses.similarity_distillation` of projected
      embeddings over a queue of the teacher's, its own embedding included.
    * ``objective='compress'``: `CompRess <https://arxiv.org/abs/2010.14713>`_,
      :func:`~mmssd.models.losses.compress` of pooled features. With
      ``student_queue='teacher'`` (1q) a linear map of this head takes the
      student to the teacher's width; with ``'momentum'`` or ``'student'``
      (2q) the student has a queue of its own, filled with the same images.

    The rows of all global crops count, each against the teacher's row of
    the same crop; one crop an image, as both papers have it, is the usual
    case. The queue is read before the first crop of each image enters it,
    for all processes. With ``small_patches`` (SEED) the other crops add a
    second term over a second queue, which the first of them enters.

    Logged terms: ``loss_similarity``, and ``loss_small`` of small patches;
    their sum has equal weights.

    Args:
        embed_dim (int): width of the teacher's rows: of its projector for
            SEED (128), of its pooled features for CompRess (2048).
        queue_length (int): rows K over all processes. Defaults to 65536
            (SEED); CompRess has 128000.
        objective (str): ``'seed'`` or ``'compress'``.
        student_temperature (float, optional): defaults to 0.2 (SEED's code)
            or 0.04 (CompRess).
        teacher_temperature (float, optional): defaults to 0.01 (SEED's
            paper; its code has 1e-4) or 0.04 (CompRess, on both sides).
        student_queue (str): whose rows the student is compared with, see
            above. SEED has ``'teacher'``.
        student_dim (int, optional): width of the student's rows; for
            CompRess, whose widths differ.
        small_patches (bool): see above. Defaults to False.
        init (str, optional): content of new queues, see
            :class:`~mmssd.models.utils.FeatureQueue`. Defaults to
            ``'unit'`` for SEED, ``'uniform'`` for CompRess.
        views (str): ``'global'``, all global crops as above, or
            ``'first'``, the first alone, where others are for another head.
        weight (float): factor of all terms. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range, or options of one
            objective given to the other; in training, for a queue shorter
            than the batch or small patches that are not there.
    """

    def __init__(
        self,
        embed_dim: int = 128,
        queue_length: int = 65536,
        objective: str = 'seed',
        student_temperature: float | None = None,
        teacher_temperature: float | None = None,
        student_queue: str = 'teacher',
        student_dim: int | None = None,
        small_patches: bool = False,
        init: str | None = None,
        views: str = 'global',
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if views not in ('global', 'first'):
            raise ValueError(f"views={views!r}: must be 'global' or 'first'")
        if views == 'first' and small_patches:
            raise ValueError(
                "views='first' leaves no small patches: set "
                'small_patches=False'
            )
        if objective not in DEFAULTS:
            raise ValueError(
                f'objective={objective!r}: must be one of {list(DEFAULTS)}'
            )
        temperatures, content = DEFAULTS[objective]
        given = (student_temperature, teacher_temperature)
        found = [
            default if value is None else value
            for value, default in zip(given, temperatures, strict=True)
        ]
        names = ('student_temperature', 'teacher_temperature')
        for name, value in zip(names, found, strict=True):
            check_temperature(value, name)
        if student_queue not in QUEUES:
            raise ValueError(
                f'student_queue={student_queue!r}: must be one of {QUEUES}'
            )
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        compresses = objective == 'compress'
        if compresses and found[0] != found[1]:
            raise ValueError(
                f'CompRess has one temperature, got {found[0]} for the '
                f'student and {found[1]} for the teacher'
            )
        if not compresses and (student_queue != 'teacher' or student_dim):
            raise ValueError(
                f'student_queue={student_queue!r} and student_dim='
                f"{student_dim} are of objective='compress': SEED compares "
                'both with the queue of the teacher, in the width of the '
                'projectors'
            )
        if compresses and not student_dim:
            raise ValueError(
                "objective='compress' works on pooled features: set "
                'student_dim and embed_dim to the widths of student and '
                'teacher backbone'
            )
        if compresses and small_patches:
            raise ValueError("small_patches is of objective='seed'")
        self.objective = objective
        self.student_temperature, self.teacher_temperature = found
        self.student_queue_of = student_queue
        self.small_patches = small_patches
        self.first = views == 'first'
        self.weight = weight
        self.field = 'features' if compresses else 'embeddings'
        if not compresses:
            self.embed_dim = embed_dim  # compared with the projectors'
        init = init or content
        self.queue = FeatureQueue(embed_dim, queue_length, init)
        self.small_queue = (
            FeatureQueue(embed_dim, queue_length, init)
            if small_patches
            else None
        )
        two = student_queue != 'teacher'
        self.student_queue = (
            FeatureQueue(student_dim, queue_length, init) if two else None
        )
        self.projector = (
            nn.Linear(student_dim, embed_dim)
            if compresses and not two
            else None
        )

    @property
    def needs(self) -> Needs:
        """Rows of student and teacher, and of whoever fills the queue."""
        momentum = self.student_queue_of == 'momentum'
        views = 'all' if self.small_patches else 'global'
        if self.first:
            views = (0,)
        return Needs(
            student={self.field},
            teacher={self.field},
            momentum={self.field} if momentum else frozenset(),
            student_views=views,
            teacher_views=views,
            momentum_views=(0,),
        )

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_similarity``, and ``loss_small`` if there is."""
        student = getattr(step.student, self.field)
        teacher = getattr(step.teacher, self.field)
        number = 1 if self.first else step.num_global
        self._check_rows(student[0], teacher[0])
        big = torch.cat(student[:number]), torch.cat(teacher[:number])
        terms = {'loss_similarity': self.weight * self._compare(*big)}
        if self.small_patches:
            if len(student) == number:
                raise SetupError(
                    'small_patches=True, but all views are of one size: add '
                    'smaller views in the data pipeline, or set it to False'
                )
            terms['loss_small'] = self.weight * similarity_distillation(
                torch.cat(student[number:]),
                torch.cat(teacher[number:]),
                self.small_queue.features,
                self.student_temperature,
                self.teacher_temperature,
            )
        if self.training:
            self._fill(step, teacher, number)
        return terms

    def _compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.objective == 'seed':
            return similarity_distillation(
                student,
                teacher,
                self.queue.features,
                self.student_temperature,
                self.teacher_temperature,
            )
        own = self.queue
        if self.student_queue is not None:
            own = self.student_queue
        else:
            student = self.projector(student.to(self.projector.weight.dtype))
        return compress(
            student,
            teacher,
            own.features,
            self.queue.features,
            self.student_temperature,
        )

    @torch.no_grad()
    def _fill(self, step: Step, teacher: list[Tensor], number: int) -> None:
        """Let one crop of each image enter, into all queues in step."""

        def unit(rows: Tensor) -> Tensor:
            dtype = torch.promote_types(rows.dtype, torch.float32)
            return F.normalize(rows.to(dtype), dim=1)

        later = not step.ends_update
        self.queue.enqueue(unit(teacher[0]), later)
        if self.small_queue is not None:
            self.small_queue.enqueue(unit(teacher[number]), later)
        if self.student_queue is not None:
            source = getattr(step, self.student_queue_of)
            rows = getattr(source, self.field)[0]
            self.student_queue.enqueue(unit(rows), later)

    def check(self, plan: TrainingPlan) -> None:
        """Compare the queue with the batch."""
        # rows of all steps of an update enter together
        self._check_queue(plan.batch * plan.accumulation)

    def _check_queue(self, batch: int) -> None:
        if self.queue.length < batch:
            raise SetupError(
                f'queue_length={self.queue.length} of SimilarityQueueHead is '
                f'below the batch of {batch} images over all processes: '
                'raise it'
            )

    def _check_rows(self, student: Tensor, teacher: Tensor) -> None:
        self._check_queue(len(teacher) * dist.get_world_size())
        wanted = {
            'embed_dim': (self.queue, teacher),
            'student_dim': (self.student_queue or self.projector, student),
        }
        for name, (module, rows) in wanted.items():
            if module is None:
                continue
            width = (
                module.in_features
                if isinstance(module, nn.Linear)
                else module.features.size(1)
            )
            if rows.size(1) != width:
                raise SetupError(
                    f'{name}={width} of SimilarityQueueHead, but the '
                    f'{self.field} have width {rows.size(1)}: set it so'
                )
