"""Self-distillation without labels: DINO."""

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..losses.self_distillation import self_distillation
from ..losses.swapped_prediction import check_temperature
from ..utils.collectives import mean_over_processes
from ..utils.plan import Duration, SetupError, TrainingPlan
from ..utils.step import Needs, Step
from .base_head import DistillHead


def _last_layer(embed_dim: int, num_prototypes: int) -> nn.Linear:
    """Weight-normed linear map, of rows with unit length at birth."""
    layer = weight_norm(nn.Linear(embed_dim, num_prototypes, bias=False))
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(1.0)
    return layer


@MODELS.register_module()
class DINOHead(DistillHead):
    r"""Predict the momentum student's output on other crops.

    `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_ (DINO). Unit embeddings of the
    projectors (the bottleneck) go through a weight-normed last layer, of
    which this head keeps the momentum student's average; the loss is
    :func:`~mmssd.models.losses.self_distillation` of all crops of the
    student against the global crops of the momentum student. The centre of
    the latter's logits over **all** processes,

    .. math:: c \leftarrow m\,c + (1 - m)\,\mathrm{mean}(t),

    is updated after it was used.

    The temperature of the targets rises linearly from
    ``warmup_teacher_temperature`` to ``teacher_temperature`` in the first
    ``temperature_warmup``.

    Logged term: ``loss_dino``.

    Args:
        embed_dim (int): width D of the bottleneck. Defaults to 256.
        num_prototypes (int): outputs K. Defaults to 65536.
        student_temperature (float): Defaults to 0.1.
        teacher_temperature (float): of the targets, after the warm-up.
            Defaults to 0.04.
        warmup_teacher_temperature (float): at the start. Defaults to 0.04.
        temperature_warmup (int | dict): iterations, or ``dict(epochs=n)``.
            Defaults to 0.
        center_momentum (float): m in [0, 1). Defaults to 0.9.
        norm_last_layer (bool): keep the rows of the last layer at unit
            length. Defaults to True.
        freeze_last_layer (int | dict): number of first iterations, or
            ``dict(epochs=n)``, in which the last layer gets a zero gradient
            (DINO: one epoch). Defaults to 0.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; in training, for a last
            layer that would stay frozen to the end or rows of another
            width.

    Note:
        DINO's code raises the temperature once an epoch, in steps; here it
        rises by iterations. Its momentum schedule, 0.996 to 1 by half a
        cosine, is ``model.momentum=dict(decay=0.996, final_decay=1.0)``;
        the average is taken before the next step instead of after this one.
        A frozen last layer gets a gradient of zero instead of none: as its
        rows are normalised, decay cannot turn them.
    """

    center: Tensor
    iteration: Tensor

    def __init__(
        self,
        embed_dim: int = 256,
        num_prototypes: int = 65536,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        temperature_warmup: int | dict = 0,
        center_momentum: float = 0.9,
        norm_last_layer: bool = True,
        freeze_last_layer: int | dict = 0,
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        for name, value in (
            ('student_temperature', student_temperature),
            ('teacher_temperature', teacher_temperature),
            ('warmup_teacher_temperature', warmup_teacher_temperature),
        ):
            check_temperature(value, name)
        if embed_dim < 1 or num_prototypes < 1:
            raise ValueError(
                f'embed_dim={embed_dim}, num_prototypes={num_prototypes}: '
                'both must be >= 1'
            )
        if not 0 <= center_momentum < 1:
            raise ValueError(
                f'center_momentum={center_momentum}: must be in [0, 1)'
            )
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.embed_dim = embed_dim
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.temperature_warmup = Duration(
            temperature_warmup, 'temperature_warmup'
        )
        self.center_momentum = center_momentum
        self.freeze_last_layer = Duration(
            freeze_last_layer, 'freeze_last_layer'
        )
        self.weight = weight
        self.last_layer = _last_layer(embed_dim, num_prototypes)
        if norm_last_layer:
            length = self.last_layer.parametrizations.weight.original0
            length.requires_grad_(False)
        self.momentum_last_layer = _last_layer(embed_dim, num_prototypes)
        self.momentum_last_layer.load_state_dict(self.last_layer.state_dict())
        self.momentum_last_layer.requires_grad_(False)
        self.register_buffer('center', torch.zeros(1, num_prototypes))
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration = 0  # the same number on the host: no waiting

    @property
    def averaged(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """The last layer's average, and the last layer."""
        return ((self.momentum_last_layer, self.last_layer),)

    @property
    def needs(self) -> Needs:
        """All crops of the student, global ones of the momentum student."""
        return Needs(
            student={'embeddings'},
            momentum={'embeddings'},
            momentum_views='global',
            min_global=2,
        )

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.iteration.is_meta:
            self._iteration = int(self.iteration)

    def temperature(self) -> float:
        """Return the temperature of the targets in this iteration."""
        length = self.temperature_warmup.iterations
        left = max(1 - self._iteration / length, 0.0) if length else 0.0
        start, end = self.warmup_teacher_temperature, self.teacher_temperature
        return end + (start - end) * left

    def _logits(self, rows: list[Tensor], weight: Tensor) -> list[Tensor]:
        dtype = torch.promote_types(weight.dtype, torch.float32)
        unit = F.normalize(torch.cat(rows).to(dtype), dim=1)
        sizes = [len(x) for x in rows]
        return list(F.linear(unit, weight.to(dtype)).split(sizes))

    def _student_and_targets(
        self, step: Step
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the logits of all crops, and those of the global targets."""
        student = step.student.embeddings
        teacher = step.momentum.embeddings[: step.num_global]
        if student[0].size(1) != self.embed_dim:
            raise SetupError(
                f'embed_dim={self.embed_dim} of DINOHead, but the embeddings '
                f'have width {student[0].size(1)}: set it so'
            )
        weight = self.last_layer.weight
        if self._iteration < self.freeze_last_layer.iterations:
            fixed = weight.detach()
            weight = fixed + 0.0 * (weight - fixed)
        with torch.no_grad():
            targets = self._logits(teacher, self.momentum_last_layer.weight)
        return self._logits(student, weight), targets

    def layers(self, step: Step) -> list[Tensor]:
        """Return the logits, of the average as well.

        Section 3.1 of DINO has the weight-normed layer in the projection
        head of each network.
        """
        student, targets = self._student_and_targets(step)
        return [*student, *targets]

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_dino``."""
        student, targets = self._student_and_targets(step)
        loss = self_distillation(
            student,
            targets,
            self.center,
            self.student_temperature,
            self.temperature(),
        )
        if self.training:
            self._update_center(torch.cat(targets))
            self._iteration += 1
            self.iteration.fill_(self._iteration)
        return {'loss_dino': self.weight * loss}

    @torch.no_grad()
    def _update_center(self, logits: Tensor) -> None:
        mean = mean_over_processes(logits.mean(dim=0, keepdim=True))
        mean = mean.to(self.center.dtype)
        self.center.copy_(mean.lerp(self.center, self.center_momentum))

    def check(self, plan: TrainingPlan) -> None:
        """Resolve epochs; compare them with the training."""
        self.temperature_warmup.resolve(plan)
        self.freeze_last_layer.resolve(plan)
        frozen = self.freeze_last_layer.iterations
        if frozen >= plan.max_iters:
            raise SetupError(
                f'freeze_last_layer={self.freeze_last_layer.value} of '
                f'DINOHead are {frozen} iterations, but the training has '
                f'{plan.max_iters}: its last layer would never learn; lower '
                'it'
            )
        warmup = self.temperature_warmup.iterations
        if warmup > plan.max_iters:
            MMLogger.get_current_instance().warning(
                f'temperature_warmup={self.temperature_warmup.value} of '
                f'DINOHead are {warmup} iterations, but the training has '
                f'{plan.max_iters}: it ends below teacher_temperature='
                f'{self.teacher_temperature}'
            )
