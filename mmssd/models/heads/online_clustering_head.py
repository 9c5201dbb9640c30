"""Online clustering: SwAV, and OSS where the teacher gives the codes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.swapped_prediction import check_temperature, swapped_prediction
from ..utils.feature_queue import FeatureQueue
from ..utils.plan import Duration, SetupError, TrainingPlan
from ..utils.sinkhorn import sinkhorn
from ..utils.step import Encodings, Needs, Step
from .base_head import DistillHead

NETWORKS = ('teacher', 'student')
REDUCTIONS = ('mean', 'sum')


@MODELS.register_module()
class OnlineClusteringHead(DistillHead):
    r"""Swapped prediction of online cluster codes by one or two networks.

    `Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments <https://arxiv.org/abs/2006.09882>`_ (SwAV) and "Unsupervised
    Representation Transfer for Small Networks: I Believe I Can Distill
    On-the-Fly" (OSS; Choi, Kang, Oh), equations 2 to 6.

    Codes :math:`q_i` come from :func:`~mmssd.models.utils.sinkhorn` on the
    global crops of **one** network (``codes_from``), joined with a queue of
    its earlier embeddings, and carry no gradient. Every network in ``train``
    then predicts them through the same prototypes C, with
    :math:`\ell(a, q) = -\sum_k q_k \log \mathrm{softmax}(a C^T/\tau)_k`:

    .. math::
        L = \frac{1}{N P} \sum_n \Big[
        \sum_{i} \sum_{j \ne i} \ell(z_{nj}, q_{ni})
        + \sum_{i} \sum_{v} \ell(\hat z_{nv}, q_{ni})
        + \sum_{i} \sum_{w} \ell(\tilde z_{nw}, q_{ni}) \Big]

    over the global crops i, j, the V small crops v and, with
    ``dropout_views``, the dropout embeddings w of **all** crops, each
    matched to every code, its own included. With two global crops the
    number of pairs P is 2(V+1), or 2(2V+3) with dropout views.

    Logged terms: ``loss_teacher`` (:math:`L_T`) and ``loss_student``
    (:math:`L_S`; also the SwAV loss of a student alone).

    Args:
        embed_dim (int): width D of the embeddings. Defaults to 128.
        num_prototypes (int): K >= 2. Defaults to 3000 (SwAV).
        temperature (float): :math:`\tau`. Defaults to 0.1 (SwAV).
        epsilon (float): entropy weight of the codes. Defaults to 0.05.
        iterations (int): Sinkhorn rounds. Defaults to 3.
        codes_from (str): ``'teacher'`` or ``'student'``.
        train (Sequence[str]): networks that predict the codes. Defaults to
            both (OSS); ``('student',)`` for SwAV or a frozen teacher.
        dropout_views (bool): add the dropout embeddings as views; the
            projectors of the trained networks must provide them.
        queue_length (int): rows of earlier embeddings kept per global crop
            over **all** processes (SwAV: 3840); 0 for none.
        queue_start (int | dict): iteration from which the queue is filled,
            or ``dict(epochs=n)`` (SwAV: 15). It is used once every row is
            filled.
        freeze_prototypes (int | dict): number of first iterations, or
            epochs, in which the prototypes get a zero gradient (SwAV: 5005
            iterations, one epoch).
        teacher_prototypes (bool): codes are taken with the frozen
            prototypes of the teacher's checkpoint, and the student's start
            as a copy of them (off.KD-Drop). The teacher must provide them
            by ``extra_keys=dict(prototypes=...)``.
        reduction (str): ``'mean'`` over the pairs as above, or ``'sum'``
            over them (P = 1), which gives the equations of the paper
            divided by N.
        weights (dict, optional): factors of the terms by network.
            Defaults to 1 each (OSS, eq. 1).
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for a size, temperature, name or weight out of range; in
            training, for a queue shorter than the batch, prototypes that
            would stay frozen to the end, or rows of another width.

    Note:
        SwAV keeps one queue per process outside its checkpoint. Here there
        is one for all processes, in the checkpoint; each process scores its
        share of the rows, so the codes are those of SwAV (they do not
        depend on the order of rows) and a run may be resumed with another
        number of processes. Frozen prototypes get a gradient of zero
        instead of none, so that all parameters take part in every step of
        a distributed run; as the prototypes are normalised before each use,
        the weight decay of SGD, LARC and AdamW cannot turn them either (that
        of plain Adam, rescaled entry by entry, would). Optimizers of Adam's
        kind do count the frozen steps: the first free ones are up to six
        times as large. Under gradient accumulation codes, queue and both
        counters go by micro-batches.
    """

    iteration: Tensor

    def __init__(
        self,
        embed_dim: int = 128,
        num_prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        codes_from: str = 'teacher',
        train: Sequence[str] = NETWORKS,
        dropout_views: bool = False,
        queue_length: int = 0,
        queue_start: int | dict = 0,
        freeze_prototypes: int | dict = 0,
        teacher_prototypes: bool = False,
        reduction: str = 'mean',
        weights: dict[str, float] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_temperature(temperature)
        check_temperature(epsilon, 'epsilon')
        for name, value, least in (
            ('num_prototypes', num_prototypes, 2),  # of one, the loss is 0
            ('embed_dim', embed_dim, 1),
            ('iterations', iterations, 1),
            ('queue_length', queue_length, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f'OnlineClusteringHead: {name}={value}, must be an '
                    f'integer >= {least}'
                )
        if codes_from not in NETWORKS:
            raise ValueError(
                f'codes_from={codes_from!r}: must be one of {NETWORKS}'
            )
        trained = tuple(train)
        if not trained or set(trained) - set(NETWORKS):
            raise ValueError(
                f'train={train!r}: name one or both of {NETWORKS}'
            )
        if reduction not in REDUCTIONS:
            raise ValueError(
                f'reduction={reduction!r}: must be one of {REDUCTIONS}'
            )
        weights = dict(weights or {})
        if set(weights) - set(trained):
            raise ValueError(
                f'weights={weights}: keys must be trained networks {trained}'
            )
        if any(weight < 0 for weight in weights.values()):
            raise ValueError(f'weights={weights}: must be >= 0')
        if teacher_prototypes and (
            codes_from != 'teacher' or 'teacher' in trained
        ):
            raise ValueError(
                'teacher_prototypes=True is for a frozen teacher: set '
                "codes_from='teacher' and train=('student',)"
            )
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.codes_from = codes_from
        self.trained = trained
        self.dropout_views = dropout_views
        self.queue_start = Duration(queue_start, 'queue_start')
        self.freeze_prototypes = Duration(
            freeze_prototypes, 'freeze_prototypes'
        )
        self.reduction = reduction
        self.weights = {name: weights.get(name, 1.0) for name in trained}

        self.prototypes = nn.Linear(embed_dim, num_prototypes, bias=False)
        self.queues = nn.ModuleList(
            FeatureQueue(embed_dim, queue_length, init='zeros')
            for _ in range(2 if queue_length else 0)
        )
        self.register_buffer(
            'teacher_prototypes',
            torch.zeros(num_prototypes, embed_dim)
            if teacher_prototypes
            else None,
        )
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration = 0  # the same number on the host: no waiting

    @property
    def needs(self) -> Needs:
        """Embeddings of the networks that train or give the codes."""
        fields = {'embeddings'}
        if self.dropout_views:
            fields = fields | {'dropout_embeddings'}
        asked = {name: fields for name in self.trained}
        asked.setdefault(self.codes_from, {'embeddings'})
        return Needs(
            **asked,
            teacher_views='all' if 'teacher' in self.trained else 'global',
            min_global=2,
        )

    def prepare(self, teacher) -> None:
        """Copy the prototypes of a frozen teacher, if they are asked for.

        Raises:
            ValueError: if the teacher's prototypes have another shape.
        """
        if self.teacher_prototypes is None:
            return
        given = teacher.extra('prototypes')
        if given.shape != self.prototypes.weight.shape:
            raise ValueError(
                f'the teacher has prototypes of shape {tuple(given.shape)}, '
                'the head of shape '
                f'{tuple(self.prototypes.weight.shape)}: set num_prototypes '
                'and embed_dim to the teacher checkpoint'
            )
        with torch.no_grad():
            self.teacher_prototypes.copy_(F.normalize(given, dim=1))
            self.prototypes.weight.copy_(self.teacher_prototypes)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.iteration.is_meta:
            self._iteration = int(self.iteration)

    @property
    def _dtype(self) -> torch.dtype:
        """At least float32; float64 for a float64 model."""
        return torch.promote_types(self.prototypes.weight.dtype, torch.float32)

    @torch.no_grad()
    def _normalize_prototypes(self) -> None:
        weight = self.prototypes.weight
        weight.copy_(F.normalize(weight, dim=1))

    def _prototypes(self) -> Tensor:
        weight = self.prototypes.weight.to(self._dtype)
        if self._iteration < self.freeze_prototypes.iterations:
            fixed = weight.detach()
            return fixed + 0.0 * (weight - fixed)
        return weight

    @torch.no_grad()
    def codes(self, embeddings: list[Tensor]) -> list[Tensor]:
        """Return the codes of each global crop, ``(N, K)`` each.

        Args:
            embeddings: one ``(N, D)`` tensor of unit rows per global crop.
                In training they enter the queue after it has been read.
        """
        weight = self.prototypes.weight.to(self._dtype)
        if self.teacher_prototypes is not None:
            weight = self.teacher_prototypes.to(self._dtype)
        queues: Sequence[FeatureQueue | None] = [None] * len(embeddings)
        if self.queues and self._iteration >= self.queue_start.iterations:
            queues = self.queues
        codes = []
        for z, queue in zip(embeddings, queues, strict=True):
            rows, mask = z, None
            if queue is not None:
                share = queue.features.tensor_split(dist.get_world_size())
                share = share[dist.get_rank()].to(self._dtype)
                full = queue.features.any(dim=1).all()
                rows = torch.cat([share, z])
                mask = full.expand(len(share))
                mask = torch.cat([mask, full.new_ones(len(z))])
            code = sinkhorn(
                rows @ weight.t(),
                self.epsilon,
                self.iterations,
                mask,
                bound=1,
                last=len(z),
                overwrite=True,
            )
            codes.append(code)
            if queue is not None and self.training:
                queue.enqueue(z)
        return codes

    def predict(self, encodings: Encodings, codes: list[Tensor]) -> Tensor:
        """Return the loss of one network against the codes.

        Args:
            encodings: embeddings (and dropout embeddings) of all crops.
            codes: one ``(N, K)`` tensor per global crop.
        """
        num_global = len(codes)
        everything = torch.stack(codes).sum(0)
        # the loss is linear in the codes: one target a view suffices
        targets = [everything - code for code in codes]
        num_other = len(encodings.embeddings) - num_global
        if self.dropout_views:
            num_other += len(encodings.dropout_embeddings)
        targets += [everything] * num_other
        pairs = num_global * (num_global - 1 + num_other)

        views = encodings.embeddings + (
            encodings.dropout_embeddings if self.dropout_views else []
        )
        rows = F.normalize(torch.cat(views).to(self._dtype), dim=1)
        scores = rows @ self._prototypes().t()
        loss = swapped_prediction(scores, torch.cat(targets), self.temperature)
        loss = loss * len(views)  # mean over N, sum over the pairs
        return loss / pairs if self.reduction == 'mean' else loss

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_<network>`` of each trained network."""
        if self.training:
            self._normalize_prototypes()
        source = getattr(step, self.codes_from).embeddings[: step.num_global]
        self._check(step, source)
        codes = self.codes(
            [F.normalize(z.detach().to(self._dtype), dim=1) for z in source]
        )
        terms = {
            f'loss_{name}': self.weights[name]
            * self.predict(getattr(step, name), codes)
            for name in self.trained
        }
        if self.training:
            self._iteration += 1
            self.iteration.fill_(self._iteration)
        return terms

    def check(self, plan: TrainingPlan) -> None:
        """Resolve epochs; compare queue and counters with the training."""
        self.queue_start.resolve(plan)
        self.freeze_prototypes.resolve(plan)
        frozen = self.freeze_prototypes.iterations
        if frozen >= plan.max_iters:
            raise SetupError(
                f'freeze_prototypes={self.freeze_prototypes.value} of '
                f'OnlineClusteringHead are {frozen} iterations, but the '
                f'training has {plan.max_iters}: its prototypes would never '
                'learn; lower it, or give dict(epochs=1)'
            )
        if not self.queues:
            return
        self._check_queue(plan.batch)
        start = self.queue_start.iterations
        if start >= plan.max_iters:
            MMLogger.get_current_instance().warning(
                f'queue_start={self.queue_start.value} of '
                f'OnlineClusteringHead is iteration {start}, but the '
                f'training has {plan.max_iters}: its queue will not be used'
            )

    def _check_queue(self, batch: int) -> None:
        length = self.queues[0].length
        if length < batch:
            raise SetupError(
                f'queue_length={length} of OnlineClusteringHead is below '
                f'the batch of {batch} images over all processes: nothing '
                'older than the batch would be kept; raise queue_length or '
                'set it to 0'
            )

    def _check(self, step: Step, source: list[Tensor]) -> None:
        for name in {*self.trained, self.codes_from}:
            width = getattr(step, name).embeddings[0].size(1)
            if width != self.embed_dim:
                raise SetupError(
                    f'embed_dim={self.embed_dim} of OnlineClusteringHead, '
                    f'but the embeddings of the {name} have width {width}: '
                    'make embed_dim and the output widths of the necks equal'
                )
        if not self.queues:
            return
        if len(source) != len(self.queues):
            raise SetupError(
                f'{len(source)} global crops, but the queue of '
                'OnlineClusteringHead is for 2: set queue_length=0 or give '
                '2 global crops'
            )
        self._check_queue(len(source[0]) * dist.get_world_size())
