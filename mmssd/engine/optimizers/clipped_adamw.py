"""AdamW on gradients that are clipped tensor by tensor."""

from collections.abc import Callable, Iterable

import torch
from mmpretrain.registry import OPTIMIZERS
from torch import Tensor
from torch.nn.utils import clip_grad_norm_


@OPTIMIZERS.register_module()
class ClippedAdamW(torch.optim.AdamW):
    r"""PyTorch's AdamW after clipping every gradient by its own norm.

    The gradient g of every parameter tensor becomes

    .. math:: \min\Big(1, \frac{c}{\|g\| + 10^{-6}}\Big)\, g,

    in place, before the step: the clipping of `DINO
    <https://arxiv.org/abs/2104.14294>`_'s code. ``clip_grad`` of mmengine's
    optimizer wrappers has one norm, of all gradients together. In mixed
    precision gradients are unscaled before they come here.

    Args:
        params (Iterable): parameters, or dicts of parameter groups.
        max_norm (float): c > 0. Defaults to 3.0 (DINO).
        **kwargs: of ``torch.optim.AdamW``, but for ``fused=True``, which
            takes gradients that are still scaled.

    Raises:
        ValueError: if ``max_norm`` is not positive, or ``fused`` is set.
    """

    def __init__(
        self, params: Iterable, max_norm: float = 3.0, **kwargs
    ) -> None:
        if not max_norm > 0:
            raise ValueError(f'max_norm={max_norm}: must be > 0')
        if kwargs.get('fused'):
            raise ValueError(
                'fused=True: the gradients would be clipped before mixed '
                'precision unscales them; leave it out'
            )
        super().__init__(params, **kwargs)
        self.max_norm = max_norm

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Tensor | None:
        """Clip, then update the parameters once.

        Args:
            closure: computes the loss anew, optional.

        Returns:
            The loss of the closure, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group['params']:
                clip_grad_norm_(parameter, self.max_norm)
        super().step()
        return loss
