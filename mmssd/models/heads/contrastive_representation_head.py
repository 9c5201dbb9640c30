"""Contrast of student and teacher over a memory of all images: CRD."""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.noise_contrast import match_scores, noise_contrast
from ..losses.swapped_prediction import check_temperature
from ..utils.collectives import gather_rows, mean_over_processes
from ..utils.plan import SetupError, TrainingPlan
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class ContrastiveRepresentationHead(DistillHead):
    r"""CRD, and the binary contrastive loss of SEED's ablation.

    `Contrastive Representation Distillation
    <https://arxiv.org/abs/1910.10699>`_. A linear map each takes the pooled
    features of student and teacher to unit rows v and u of width D. Two
    memories hold one row for every training image; each image is compared
    with its own row and with m rows drawn uniformly, the student's v with
    the teacher's memory and the other way round, by
    :func:`~mmssd.models.losses.noise_contrast`; the two sides are added.
    The normalising constant Z of a side is fixed by its first batch: mean
    score times the number of images. Afterwards the rows of the batch move,

    .. math:: M_i \leftarrow u\big(\mu M_i + (1 - \mu) v_i\big)

    Both memories, Z and the linear maps are in the checkpoint. Images are
    told apart by ``sample_idx``, which mmpretrain's ``PackInputs`` passes on.

    Logged term: ``loss_contrast``.

    Args:
        num_images (int): M, images of the training set.
        student_dim (int): width of the student's pooled features.
        teacher_dim (int): width of the teacher's.
        embed_dim (int): D. Defaults to 128.
        num_noise (int): m, rows drawn for each image. Defaults to 16384.
        temperature (float): of the scores. Defaults to 0.07.
        momentum (float): :math:`\mu` in [0, 1). Defaults to 0.5.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; in training, for images
            without ``sample_idx`` or one beyond ``num_images``.
    """

    student_memory: Tensor  # (M, D)
    teacher_memory: Tensor  # (M, D)
    constants: Tensor  # (2,), Z of the student's and the teacher's side

    needs = Needs(
        student={'features'}, teacher={'features'}, teacher_views='global'
    )

    def __init__(
        self,
        num_images: int,
        student_dim: int,
        teacher_dim: int,
        embed_dim: int = 128,
        num_noise: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value in (
            ('num_images', num_images),
            ('student_dim', student_dim),
            ('teacher_dim', teacher_dim),
            ('embed_dim', embed_dim),
            ('num_noise', num_noise),
        ):
            if value < 1:
                raise ValueError(f'{name}={value}: must be >= 1')
        check_temperature(temperature)
        if not 0 <= momentum < 1:
            raise ValueError(f'momentum={momentum}: must be in [0, 1)')
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.num_noise = num_noise
        self.temperature = temperature
        self.momentum = momentum
        self.weight = weight
        self.student_projector = nn.Linear(student_dim, embed_dim)
        self.teacher_projector = nn.Linear(teacher_dim, embed_dim)
        bound = (3 / embed_dim) ** 0.5  # as CompRess' queues
        for name in ('student_memory', 'teacher_memory'):
            rows = torch.empty(num_images, embed_dim).uniform_(-bound, bound)
            self.register_buffer(name, rows)
        # 0 = not fixed yet
        self.register_buffer('constants', torch.zeros(2))

    @property
    def num_images(self) -> int:
        """Number of rows M of each memory."""
        return self.student_memory.size(0)

    def _indices(self, step: Step, number: int) -> Tensor:
        samples = step.data_samples
        if samples is None or any(
            sample is None or 'sample_idx' not in sample for sample in samples
        ):
            raise SetupError(
                'ContrastiveRepresentationHead keeps a row for every image '
                "and needs their numbers: let the pipeline's PackInputs "
                "pass on the meta key 'sample_idx'"
            )
        found = [int(sample.get('sample_idx')) for sample in samples]
        if max(found) >= self.num_images:
            raise SetupError(
                f'num_images={self.num_images} of '
                'ContrastiveRepresentationHead, but the training set has an '
                f'image with sample_idx={max(found)}: set it to the length '
                'of the data set'
            )
        return torch.tensor(found, device=self.student_memory.device)

    def _project(self, name: str, rows: Tensor) -> Tensor:
        projector = getattr(self, f'{name}_projector')
        if rows.size(1) != projector.in_features:
            raise SetupError(
                f'{name}_dim={projector.in_features} of '
                'ContrastiveRepresentationHead, but the features have width '
                f'{rows.size(1)}: set it so'
            )
        return F.normalize(projector(rows.to(projector.weight.dtype)), dim=1)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_contrast``, of the first crop of each image."""
        own = self._indices(step, len(step.student.features[0]))
        student = self._project('student', step.student.features[0])
        teacher = self._project('teacher', step.teacher.features[0].detach())
        noise = torch.randint(
            self.num_images, (len(own), self.num_noise), device=own.device
        )
        index = torch.cat([own[:, None], noise], dim=1)
        sides = [
            match_scores(rows, memory[index], self.temperature)
            for rows, memory in (
                (student, self.teacher_memory),
                (teacher, self.student_memory),
            )
        ]
        constants = self._fix_constants(sides)
        total = sum(
            noise_contrast(scores, constant, self.num_images)
            for scores, constant in zip(sides, constants, strict=True)
        )
        if self.training:
            self._remember(own, student, teacher)
        return {'loss_contrast': self.weight * total}

    @torch.no_grad()
    def _fix_constants(self, sides: list[Tensor]) -> Tensor:
        """Return Z of both sides, set by the first batch of all processes."""
        found = torch.stack([scores.mean() for scores in sides])
        found = mean_over_processes(found * self.num_images)
        # on the device, so that nothing waits for it
        fixed = torch.where(
            self.constants > 0, self.constants, found.to(self.constants.dtype)
        )
        if self.training:
            self.constants.copy_(fixed)
        return fixed

    @torch.no_grad()
    def _remember(self, own: Tensor, student: Tensor, teacher: Tensor) -> None:
        """Move the rows of the batch, those of all processes alike."""
        own, *rows = (gather_rows(x) for x in (own, student, teacher))
        for memory, new in zip(
            (self.student_memory, self.teacher_memory), rows, strict=True
        ):
            moved = torch.lerp(
                new.to(memory.dtype), memory[own], self.momentum
            )
            memory.index_copy_(0, own, F.normalize(moved, dim=1))

    def check(self, plan: TrainingPlan) -> None:
        """Compare the memories with the length of the training set.

        An epoch may drop up to a batch, so only a clear difference counts.
        """
        seen = plan.epoch_length * plan.batch
        if seen - plan.batch >= self.num_images:
            raise SetupError(
                f'num_images={self.num_images} of '
                'ContrastiveRepresentationHead, but an epoch of '
                f'{plan.epoch_length} steps of {plan.batch} images sees '
                'more: set it to the length of the data set'
            )
