"""The momentum student: an average of the student's parameters."""

import copy
import math
from collections.abc import Callable, Iterable

import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..utils.collectives import draw_permutation, shuffle_rows, unshuffle_rows
from ..utils.plan import SetupError
from ..utils.step import Encodings

PARTS = ('backbone', 'neck')
# a pair of equal modules: the average, and what it is the average of
Pairs = Iterable[tuple[nn.Module, nn.Module]]


class MomentumStudent(BaseModule):
    r"""Exponential moving average of a backbone and its projector.

    .. math:: \theta_k \leftarrow m\,\theta_k + (1 - m)\,\theta_q

    `Momentum Contrast for Unsupervised Visual Representation Learning
    <https://arxiv.org/abs/1911.05722>`_, section 3.2. Parameters only: the
    running statistics of its batch norms are its own, kept by its forward
    passes in training mode (mmengine's averaged models copy them).

    With several processes and batch norms that are not synchronised it
    encodes images that are shuffled across the processes (section 3.3
    there), and its encodings are put back into order. In one process there
    is nothing to shuffle: its batch statistics are those of all images.
    Dropout and stochastic depth are the student's alone: but for batch
    norms, the average is always in evaluation mode (CompRess, DINO).

    Args:
        backbone: the student's backbone, copied.
        neck: the student's projector, copied; may be ``None``.
        decay: m in [0, 1). Defaults to 0.999 (MoCo).
        final_decay: m at the end of the training, reached from ``decay`` by
            half a cosine over its iterations (BYOL, DINO: 1); ``None`` for
            a constant m.
        shuffle: exchange images as above. Defaults to True; it does nothing
            where no batch norm could give a key away.

    Raises:
        ValueError: if ``decay`` is outside [0, 1), or ``final_decay``
            outside [decay, 1].
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        decay: float = 0.999,
        final_decay: float | None = None,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(
                f'decay={decay} of the momentum student: must be in [0, 1); '
                'note that mmengine writes 1 - decay'
            )
        if final_decay is not None and not decay <= final_decay <= 1:
            raise ValueError(
                f'final_decay={final_decay} of the momentum student: must '
                f'be in [decay, 1] = [{decay}, 1]'
            )
        self.decay = decay
        self.final_decay = final_decay
        self.shuffle = shuffle
        self.backbone = copy.deepcopy(backbone)
        self.neck = copy.deepcopy(neck)
        self.requires_grad_(False)
        self.train(self.training)
        # whether the last state that was loaded had all of its tensors
        self.complete = True

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        # a counter that nothing reads is missing in old files
        self.complete = all(
            f'{prefix}{key}' in state_dict
            and state_dict[f'{prefix}{key}'].shape == value.shape
            for key, value in self.state_dict().items()
            if not key.endswith('num_batches_tracked')
        )

    def _tensors(self, student: nn.Module, kind: str, others: Pairs):
        own = ((getattr(self, n), getattr(student, n)) for n in PARTS)
        for average, source in (*own, *others):
            if average is not None:
                yield from zip(
                    getattr(average, kind)(),
                    getattr(source, kind)(),
                    strict=True,
                )

    @torch.no_grad()
    def copy_from(self, student: nn.Module, others: Pairs = ()) -> None:
        """Start over as an exact copy of a student, buffers included.

        Args:
            student: with a backbone and a neck.
            others: further modules to be copied: of heads that keep an
                average of a layer.
        """
        for kind in ('parameters', 'buffers'):
            for own, other in self._tensors(student, kind, others):
                own.copy_(other)

    def decay_at(self, progress: float | None = None) -> float:
        r"""Return m at a point of the training.

        .. math::
            m(p) = m_1 - (m_1 - m_0) \, (1 + \cos \pi p) / 2

        Args:
            progress: completed fraction p in [0, 1].

        Raises:
            SetupError: if there is a schedule, but no progress.
        """
        if self.final_decay is None:
            return self.decay
        if progress is None:
            raise SetupError(
                f'final_decay={self.final_decay} of the momentum student '
                'follows the progress of a training, which is known inside a '
                'runner only: train by tools/train.py or leave it out'
            )
        left = (1 + math.cos(math.pi * progress)) / 2
        return self.final_decay - (self.final_decay - self.decay) * left

    @torch.no_grad()
    def update(
        self,
        student: nn.Module,
        progress: float | None = None,
        others: Pairs = (),
    ) -> None:
        """Move the parameters towards those of the student.

        Args:
            student: with a backbone and a neck.
            progress: completed fraction of the training, for a schedule.
            others: further modules, see :meth:`copy_from`.
        """
        pairs = self._tensors(student, 'parameters', others)
        own, other = zip(*pairs, strict=True)
        torch._foreach_lerp_(own, other, 1 - self.decay_at(progress))

    def train(self, mode: bool = True) -> 'MomentumStudent':
        """Set the mode of the batch norms; the rest stays as it is."""
        super().train(False)
        self.training = mode
        for module in self.modules():
            if 'running_mean' in module._buffers:
                module.train(mode)
        return self

    @property
    def _shuffles(self) -> bool:
        return (
            self.shuffle
            and self.training
            and dist.get_world_size() > 1
            and any(
                isinstance(module, _BatchNorm)
                and not isinstance(module, nn.SyncBatchNorm)
                for module in self.modules()
            )
        )

    def encode(
        self, views: list[Tensor], run: Callable[[list[Tensor]], Encodings]
    ) -> Encodings:
        """Encode views, shuffled across processes if that matters.

        All views of an image move together, by one permutation.

        Args:
            views: ``(N, 3, H, W)`` each; N is equal on all processes.
            run: encodes a list of views by this network.
        """
        if not self._shuffles:
            return run(views)
        order = draw_permutation(len(views[0]), views[0].device)
        encodings = run([shuffle_rows(view, order) for view in views])
        return encodings.apply(lambda rows: unshuffle_rows(rows, order))

    def init_weights(self) -> None:
        """Do nothing: the distiller copies the initialised student."""
