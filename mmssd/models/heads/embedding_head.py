"""Regression of the teacher's embedding: DisCo, l2 distance, Reg, Reg-BN."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.embedding_mse import embedding_mse
from ..utils.plan import SetupError
from ..utils.step import Needs, Step
from .base_head import DistillHead

FIELDS = ('embeddings', 'features')
NORMS = ('l2', 'bn')
# images per process, over which the published code of DisCo sums
PUBLISHED_WEIGHT = 32.0


@MODELS.register_module()
class EmbeddingHead(DistillHead):
    r"""Pull the student's rows to the teacher's rows of the same crops.

    * DisCo (https://arxiv.org/abs/2104.09124, section 3.2): unit embeddings
      of the projectors of all global crops, each crop counting one,

      .. math::
          L = w \sum_{v} \frac{1}{N} \sum_n
          \lVert u(s_{nv}) - u(t_{nv}) \rVert^2

      with w = 32 by default: its lambda is 1, but its code sums over the
      32 images of a process. Here w does not depend on how many processes
      there are. On SwAV its code takes all crops, a projector output that
      is not normalised as target (``raw_target``) and half the mean over
      crops and elements: ``views='all', reduction='mean'`` and w = 1/2D.
    * Reg: pooled features (``field='features'``), a linear map of this head
      to the teacher's width (``student_dim``, ``teacher_dim``), unit rows.
    * Reg-BN: the same with ``norm='bn'``: batch norm without affine
      parameters on both sides instead of unit rows, and the mean over
      elements. Their statistics are those of the images of one process;
      ``sync_bn='torch'`` of the runner takes those of all.

    Logged term: ``loss_embedding``.

    Args:
        field (str): ``'embeddings'`` or ``'features'``.
        student_dim, teacher_dim (int, optional): widths of the rows; given,
            a linear map takes the student's to the teacher's.
        norm (str): ``'l2'`` or ``'bn'``.
        reduction (str): ``'sum'`` over the crops as above, or their
            ``'mean'``.
        views (str): ``'global'`` crops or ``'all'``.
        weight (float, optional): w. Defaults to 32, that of the published
            run, for unit embeddings summed over crops (DisCo's form, the
            default one), and to 1 for any other.
        raw_target (bool): with ``norm='l2'``, leave the teacher's rows as
            they are. Defaults to False.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        field: str = 'embeddings',
        student_dim: int | None = None,
        teacher_dim: int | None = None,
        norm: str = 'l2',
        reduction: str = 'sum',
        views: str = 'global',
        weight: float | None = None,
        raw_target: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value, known in (
            ('field', field, FIELDS),
            ('norm', norm, NORMS),
            ('reduction', reduction, ('sum', 'mean')),
            ('views', views, ('global', 'all')),
        ):
            if value not in known:
                raise ValueError(f'{name}={value!r}: must be one of {known}')
        if (student_dim is None) != (teacher_dim is None):
            raise ValueError(
                f'student_dim={student_dim}, teacher_dim={teacher_dim}: give '
                'both for a linear map, or neither'
            )
        if norm == 'bn' and teacher_dim is None:
            raise ValueError("norm='bn' needs student_dim and teacher_dim")
        if norm == 'bn' and raw_target:
            raise ValueError("raw_target=True is of norm='l2'")
        if weight is None:
            disco = (field, norm, reduction) == ('embeddings', 'l2', 'sum')
            weight = PUBLISHED_WEIGHT if disco and not raw_target else 1.0
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.field = field
        self.norm = norm
        self.reduction = reduction
        self.views = views
        self.raw_target = raw_target
        self.weight = weight
        self.projector = (
            nn.Linear(student_dim, teacher_dim) if student_dim else None
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(teacher_dim, affine=False)
            for _ in range(2 if norm == 'bn' else 0)
        )

    @property
    def needs(self) -> Needs:
        """The same field of student and teacher."""
        return Needs(
            student={self.field},
            teacher={self.field},
            student_views=self.views,
            teacher_views=self.views,
        )

    def check_widths(self, student, teacher) -> None:
        """Compare the projectors with each other, or with the linear map."""
        if self.field != 'embeddings':
            return
        if self.projector is None:
            if student and teacher and student != teacher:
                raise ValueError(
                    f'EmbeddingHead compares embeddings, but the neck of the '
                    f'student gives width {student}, that of the teacher '
                    f'{teacher}: make neck.out_channels of both equal, or '
                    'give student_dim and teacher_dim for a linear map'
                )
            return
        for name, width, wanted in (
            ('student', student, self.projector.in_features),
            ('teacher', teacher, self.projector.out_features),
        ):
            if width and width != wanted:
                raise ValueError(
                    f'{name}_dim={wanted} of EmbeddingHead, but the neck of '
                    f'the {name} gives width {width}: set it so'
                )

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_embedding``."""
        number = step.num_global if self.views == 'global' else None
        student = getattr(step.student, self.field)[:number]
        teacher = getattr(step.teacher, self.field)[:number]
        loss = self._distance(torch.cat(student), torch.cat(teacher))
        crops = len(student) if self.reduction == 'sum' else 1
        return {'loss_embedding': self.weight * crops * loss}

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.projector is not None:
            weight = self.projector.weight
            for name, rows, width in (
                ('student_dim', student, weight.size(1)),
                ('teacher_dim', teacher, weight.size(0)),
            ):
                if rows.size(1) != width:
                    raise SetupError(
                        f'{name}={width} of EmbeddingHead, but the '
                        f'{self.field} have width {rows.size(1)}: set it so'
                    )
            student = self.projector(student.to(weight.dtype))
        if self.norm == 'l2':
            return embedding_mse(student, teacher, self.raw_target)
        teacher = teacher.detach().to(student.dtype)
        student, teacher = (
            norm(rows)
            for norm, rows in zip(self.norms, (student, teacher), strict=True)
        )
        return (student - teacher).square().mean()
