"""SGD with layer-wise adaptive rate control."""

from collections.abc import Callable, Iterable

import torch
from mmpretrain.registry import OPTIMIZERS
from torch import Tensor
from torch.optim.optimizer import Optimizer


def _check_options(options: dict) -> None:
    for name in ('lr', 'momentum', 'weight_decay', 'eps'):
        if not options[name] >= 0:
            raise ValueError(f'{name}={options[name]}: must not be negative')
    if not options['trust_coefficient'] > 0:
        raise ValueError(
            f'trust_coefficient={options["trust_coefficient"]}: must be '
            'positive'
        )


def alike(params: Iterable[Tensor]) -> list[list[Tensor]]:
    """Return parameters with a gradient, by device and type.

    Args:
        params: of one group.

    Raises:
        RuntimeError: for a sparse gradient.
    """
    kinds: dict[tuple, list[Tensor]] = {}
    for p in params:
        if p.grad is None:
            continue
        if p.grad.is_sparse:
            raise RuntimeError(
                f'the gradient of a parameter of shape {tuple(p.shape)} is '
                'sparse, which LARC and LARS do not take'
            )
        kinds.setdefault((p.device, p.dtype), []).append(p)
    return list(kinds.values())


@OPTIMIZERS.register_module()
class LARC(Optimizer):
    r"""SGD with momentum on gradients rescaled tensor by tensor.

    Every parameter tensor p, those of biases and norm layers included, has
    its gradient g replaced by

    .. math::
        \hat g = \eta\,\frac{\|p\|}{\|g\| + \lambda\|p\| + \epsilon}
        \,(g + \lambda p)

    before the ordinary step :math:`v \leftarrow \mu v + \hat g,\;
    p \leftarrow p - \gamma v`, with the trust coefficient :math:`\eta`,
    weight decay :math:`\lambda`, momentum :math:`\mu` and learning rate
    :math:`\gamma`. If :math:`\|p\|` or :math:`\|g\|` is zero, g is left
    alone and gets no weight decay.

    The optimizer of `SwAV <https://arxiv.org/abs/2006.09882>`_, after `Large
    Batch Training of Convolutional Networks
    <https://arxiv.org/abs/1708.03888>`_; behaviour of ``LARC(clip=False)``
    around SGD in NVIDIA/apex. mmpretrain's ``LARS`` is not the same: it
    multiplies the learning rate into the momentum, so the two part when the
    rate changes, and it decays tensors of zero gradient.

    A tensor without gradient (``None``) is skipped and builds up no
    momentum. Nothing here waits for the device.

    Args:
        params (Iterable): parameters, or dicts of parameter groups; every
            option below may differ between groups.
        lr (float): learning rate :math:`\gamma`.
        momentum (float): :math:`\mu`. Defaults to 0.9 (SwAV).
        weight_decay (float): :math:`\lambda`. Defaults to 0; SwAV takes
            1e-6.
        trust_coefficient (float): :math:`\eta`. Defaults to 0.001 (SwAV).
        clip (bool): never step further than SGD would: the factor of
            :math:`g + \lambda p` becomes the smaller of
            :math:`\text{factor} / \gamma` and 1. Defaults to False (SwAV).
        eps (float): :math:`\epsilon`. Defaults to 1e-8 (apex).

    Raises:
        ValueError: if an option is negative, or the trust coefficient zero.
        RuntimeError: in a step, for a sparse gradient.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        clip: bool = False,
        eps: float = 1e-8,
    ) -> None:
        defaults = dict(
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            clip=clip,
            eps=eps,
        )
        _check_options(defaults)
        super().__init__(params, defaults)
        for group in self.param_groups:
            _check_options(group)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Tensor | None:
        """Update the parameters once.

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
            for params in alike(group['params']):
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict) -> None:
        """Step tensors of one device and type, all at once."""
        decay = group['weight_decay']
        grads = [p.grad for p in params]
        exact = torch.promote_types(params[0].dtype, torch.float32)
        p_norm, g_norm = (
            torch.stack(torch._foreach_norm(tensors, 2, dtype=exact))
            for tensors in (params, grads)
        )
        factor = group['trust_coefficient'] * p_norm
        factor = factor / (g_norm + decay * p_norm + group['eps'])
        if group['clip']:
            factor = (factor / group['lr']).clamp(max=1)
        # where p is zero, g stays as it is; where g is zero, so does p
        factor = torch.where(p_norm == 0, 1, factor)
        factor = torch.where(g_norm == 0, 0, factor)

        if group['momentum']:
            steps, scale = [], 1.0
            for p in params:
                state = self.state[p]
                if 'momentum_buffer' not in state:
                    state['momentum_buffer'] = torch.zeros_like(p)
                steps.append(state['momentum_buffer'])
            torch._foreach_mul_(steps, group['momentum'])
        else:
            steps, scale = params, -group['lr']
        # two products in place: a sum g + decay p would need its own memory
        factor = factor.to(params[0].dtype)
        if decay:
            weights = list((decay * factor).unbind())
            torch._foreach_addcmul_(steps, params, weights, scale)
        torch._foreach_addcmul_(steps, grads, list(factor.unbind()), scale)
        if group['momentum']:
            torch._foreach_add_(params, steps, alpha=-group['lr'])
