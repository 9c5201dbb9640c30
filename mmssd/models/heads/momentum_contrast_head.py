"""Contrast against a queue of momentum keys: MoCo-v2, with a margin."""

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.info_nce import check_margin, in_batch_info_nce, info_nce
from ..losses.swapped_prediction import check_temperature
from ..utils.collectives import gather_rows
from ..utils.feature_queue import FeatureQueue
from ..utils.plan import SetupError, TrainingPlan
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class MomentumContrastHead(DistillHead):
    r"""Recognise an image by the momentum student's key of another crop.

    `Improved Baselines with Momentum Contrastive Learning
    <https://arxiv.org/abs/2003.04297>`_ (MoCo-v2):
    :func:`~mmssd.models.losses.info_nce` of the student's embedding of the
    first global crop (query) and the momentum student's embedding of the
    second (key), against a queue of earlier keys. The queue is read before
    the keys of all processes enter it. With a margin m on the cosine of the
    positive it is phase 1 of `Distilling Visual Priors
    <https://arxiv.org/abs/2008.00261>`_.

    ``symmetric`` adds the query of the second crop against the key of the
    first and takes the mean of the two; both keys enter the queue.
    ``in_batch`` does without momentum student and queue: the negatives are
    the second crops of the other images in the batch of **all** processes,
    and both crops get a gradient.

    Logged term: ``loss_contrast``.

    Args:
        embed_dim (int): width D of the embeddings. Defaults to 128.
        queue_length (int): keys K over all processes. Defaults to 65536.
            Not used with ``in_batch``.
        temperature (float): :math:`\tau`. Defaults to 0.2 (MoCo-v2).
        margin (float): m. Defaults to 0 (MoCo-v2); Visual Priors has 0.4.
        symmetric (bool): see above. Defaults to False.
        in_batch (bool): see above. Defaults to False.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; in training, for a queue
            shorter than the keys of a step or keys of another width.

    Note:
        That keys are encoded by averaged parameters, on images shuffled
        across processes and without gradient, is up to
        :class:`~mmssd.models.distillers.MomentumStudent`.
    """

    def __init__(
        self,
        embed_dim: int = 128,
        queue_length: int = 65536,
        temperature: float = 0.2,
        margin: float = 0.0,
        symmetric: bool = False,
        in_batch: bool = False,
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_temperature(temperature)
        check_margin(margin)
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.margin = margin
        self.symmetric = symmetric
        self.in_batch = in_batch
        self.weight = weight
        self.queue = (
            None if in_batch else FeatureQueue(embed_dim, queue_length)
        )

    @property
    def needs(self) -> Needs:
        """Queries of the student; keys of the momentum student."""
        both = self.symmetric or self.in_batch
        return Needs(
            student={'embeddings'},
            momentum=frozenset() if self.in_batch else {'embeddings'},
            student_views=(0, 1) if both else (0,),
            momentum_views=(0, 1) if self.symmetric else (1,),
            min_global=2,
        )

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_contrast``."""
        queries = step.student.embeddings
        if queries[0].size(1) != self.embed_dim:
            raise SetupError(
                f'embed_dim={self.embed_dim} of MomentumContrastHead, but '
                f'the embeddings have width {queries[0].size(1)}: set it so'
            )
        if self.in_batch:
            loss = self._in_batch(queries)
        else:
            loss = self._against_queue(
                queries, step.momentum.embeddings, not step.ends_update
            )
        return {'loss_contrast': self.weight * loss}

    def _against_queue(
        self, queries: list[Tensor], keys: list[Tensor], later: bool
    ) -> Tensor:
        pairs = [(queries[0], keys[1].detach())]
        if self.symmetric:
            pairs.append((queries[1], keys[0].detach()))
        self._check_queue(len(queries[0]) * dist.get_world_size())
        # a copy: the backward pass reads it after the keys have entered
        queue = self.queue.features.clone()
        total = sum(
            info_nce(query, key, queue, self.temperature, self.margin)
            for query, key in pairs
        )
        if self.training:
            entering = torch.cat([key for _, key in pairs])
            dtype = torch.promote_types(entering.dtype, torch.float32)
            rows = F.normalize(entering.to(dtype), dim=1)
            self.queue.enqueue(rows, later)
        return total / len(pairs)

    def _in_batch(self, queries: list[Tensor]) -> Tensor:
        first, second = queries[:2]
        pairs = [(first, second)]
        if self.symmetric:
            pairs.append((second, first))
        total = sum(
            in_batch_info_nce(
                query,
                gather_rows(key),
                dist.get_rank() * len(query),
                self.temperature,
                self.margin,
            )
            for query, key in pairs
        )
        return total / len(pairs)

    def check(self, plan: TrainingPlan) -> None:
        """Compare the queue with the batch and with the data set."""
        if self.in_batch:
            return
        # rows of all steps of an update enter together
        self._check_queue(plan.batch * plan.accumulation)
        images = plan.batch * plan.epoch_length
        if self.queue.length > images:
            MMLogger.get_current_instance().warning(
                f'queue_length={self.queue.length} of MomentumContrastHead '
                f'is more than the {images} images of an epoch: an image '
                'meets keys of itself among its negatives; lower it'
            )

    def _check_queue(self, batch: int) -> None:
        keys = 2 * batch if self.symmetric else batch
        if self.queue.length < keys:
            raise SetupError(
                f'queue_length={self.queue.length} of MomentumContrastHead '
                f'is below the {keys} keys of a step ({batch} images over '
                'all processes): raise it'
            )
