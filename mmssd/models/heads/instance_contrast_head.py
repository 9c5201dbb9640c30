"""Contrast of two crops with all other images of a batch: SimCLR."""

import torch
from mmengine import dist
from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.nt_xent import nt_xent
from ..losses.swapped_prediction import check_temperature
from ..utils.collectives import gather_rows
from ..utils.plan import SetupError, TrainingPlan
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class InstanceContrastHead(DistillHead):
    r"""SimCLR: :func:`~mmssd.models.losses.nt_xent` over all processes.

    The embeddings of the first two global crops of every image in the batch
    of **all** processes are contrasted with each other. Gathered rows keep
    their gradient, so W processes train as one with the whole batch.
    mmpretrain's ``SimCLR`` lets through the gradient of a process' own loss
    alone, which is the same for all, and averages it: its gradient is W
    times too small.

    Logged term: ``loss_contrast``.

    Args:
        embed_dim (int): width D of the embeddings. Defaults to 128.
        temperature (float): :math:`\tau`. Defaults to 0.1.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; in training, for
            embeddings of another width or a batch of one image.
    """

    needs = Needs(student={'embeddings'}, student_views=(0, 1), min_global=2)

    def __init__(
        self,
        embed_dim: int = 128,
        temperature: float = 0.1,
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_temperature(temperature)
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.weight = weight

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_contrast``."""
        first, second = step.student.embeddings[:2]
        if first.size(1) != self.embed_dim:
            raise SetupError(
                f'embed_dim={self.embed_dim} of InstanceContrastHead, but '
                f'the embeddings have width {first.size(1)}: set it so'
            )
        number = len(first)
        self._check_batch(number * dist.get_world_size())
        # rank by rank: the first crops of a process, then its second ones
        rows = torch.cat([first, second])
        start = 2 * number * dist.get_rank()
        own = start + torch.arange(2 * number, device=rows.device)
        positives = start + (own - start + number) % (2 * number)
        loss = nt_xent(
            rows, gather_rows(rows), own, positives, self.temperature
        )
        return {'loss_contrast': self.weight * loss}

    def check(self, plan: TrainingPlan) -> None:
        """Refuse a batch without negatives."""
        self._check_batch(plan.batch)

    def _check_batch(self, batch: int) -> None:
        if batch < 2:
            raise SetupError(
                'InstanceContrastHead contrasts the images of a batch, which '
                f'has {batch}: raise train_dataloader.batch_size'
            )
