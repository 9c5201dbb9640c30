"""Gradient reversal between a feature extractor and a domain classifier."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * -ctx.alpha, None


def reverse_gradient(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Identity whose gradient is ``-alpha`` times the incoming one."""
    return _Reverse.apply(x, alpha)


@MODELS.register_module()
class GradientReversal(nn.Module):
    r"""Identity forward, :math:`-\alpha\,\partial L` backward.

    `Domain-Adversarial Training of Neural Networks
    <https://arxiv.org/abs/1505.07818>`_; used by OSS (section 3.3) between
    the embeddings and the feature classifier.

    Args:
        alpha (float): strength, at least 0. Defaults to 1.0, the limit of
            the published ramp.

    Raises:
        ValueError: if ``alpha`` is negative (that would not reverse).
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ValueError(
                f'alpha={alpha}: the reversal strength must be >= 0; the '
                'sign is flipped by the layer itself'
            )
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (any shape) with its gradient reversed."""
        return reverse_gradient(x, self.alpha)

    def extra_repr(self) -> str:
        """Show the strength in the module's representation."""
        return f'alpha={self.alpha}'
