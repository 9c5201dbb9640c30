"""The momentum student: an average of the student's parameters."""

import copy

import torch
from mmengine.model import BaseModule
from torch import nn


class MomentumStudent(BaseModule):
    r"""Exponential moving average of a backbone and its projector.

    .. math:: \theta_k \leftarrow m\,\theta_k + (1 - m)\,\theta_q

    `Momentum Contrast for Unsupervised Visual Representation Learning
    <https://arxiv.org/abs/1911.05722>`_, section 3.2. Parameters only: the
    running statistics of its batch norms are its own, kept by its forward
    passes in training mode (mmengine's averaged models copy them).

    Args:
        backbone: the student's backbone, copied.
        neck: the student's projector, copied; may be ``None``.
        decay: m in [0, 1). Defaults to 0.999 (MoCo).

    Raises:
        ValueError: if ``decay`` is outside [0, 1).
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        decay: float = 0.999,
    ) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(
                f'decay={decay} of the momentum student: must be in [0, 1); '
                'note that mmengine writes 1 - decay'
            )
        self.decay = decay
        self.backbone = copy.deepcopy(backbone)
        self.neck = copy.deepcopy(neck)
        self.requires_grad_(False)

    def _pairs(self, student: nn.Module, kind: str):
        for name in ('backbone', 'neck'):
            own, other = getattr(self, name), getattr(student, name)
            if own is not None:
                yield from zip(
                    getattr(own, kind)(), getattr(other, kind)(), strict=True
                )

    @torch.no_grad()
    def copy_from(self, student: nn.Module) -> None:
        """Start over as an exact copy of a student, buffers included."""
        for kind in ('parameters', 'buffers'):
            for own, other in self._pairs(student, kind):
                own.copy_(other)

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move the parameters towards those of the student."""
        own, other = zip(*self._pairs(student, 'parameters'), strict=True)
        torch._foreach_lerp_(own, other, 1 - self.decay)

    def init_weights(self) -> None:
        """Do nothing: the distiller copies the initialised student."""
