"""mmpretrain's LARS without waiting for the device."""

from collections.abc import Callable

import torch
from mmpretrain.engine.optimizers.lars import LARS
from mmpretrain.registry import OPTIMIZERS
from torch import Tensor

from .larc import alike


@OPTIMIZERS.register_module()
class ForeachLARS(LARS):
    r"""mmpretrain's ``LARS``, by torch's functions for lists of tensors.

    For every tensor p with gradient g that ``lars_exclude`` of its group
    does not spare,

    .. math::
        v \leftarrow \mu v + (1 - d)\,\gamma\,\eta\,
        \frac{\|p\|}{\|g\| + \lambda\|p\| + \epsilon}\,(g + \lambda p),
        \qquad p \leftarrow p - v

    with learning rate :math:`\gamma`, coefficient :math:`\eta`, weight decay
    :math:`\lambda`, momentum :math:`\mu` and dampening d, which the first
    step of a tensor does not have; where a norm is zero, or the tensor is
    spared, the fraction and :math:`\eta` are one. `Large Batch Training of
    Convolutional Networks <https://arxiv.org/abs/1708.03888>`_, algorithm 1,
    as BYOL and SimCLR use it.

    mmpretrain's reads both norms of each tensor, so the host waits for the
    device twice a tensor; here it never does. With dampening, with Nesterov's
    momentum or without any, the moves of a group are all there at once,
    which takes the memory of its gradients. Arguments and state are the same:
    a run can go on with either.
    """

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

    def _rates(
        self, params: list[Tensor], grads: list[Tensor], group: dict
    ) -> Tensor:
        """Return the learning rate of each tensor."""
        kind = params[0].new_empty(0)
        if group.get('lars_exclude', False):
            return kind.new_full((len(params),), group['lr'])
        exact = torch.promote_types(kind.dtype, torch.float32)
        p_norm, g_norm = (
            torch.stack(torch._foreach_norm(tensors, 2, dtype=exact))
            for tensors in (params, grads)
        )
        factor = group['eta'] * p_norm
        factor = factor / (g_norm + group['weight_decay'] * p_norm + self.eps)
        factor = torch.where((p_norm == 0) | (g_norm == 0), 1, factor)
        return (group['lr'] * factor).to(kind.dtype)

    def _update(self, params: list[Tensor], group: dict) -> None:
        """Step tensors of one device and type."""
        grads = [p.grad for p in params]
        rates = self._rates(params, grads, group)
        decay, momentum = group['weight_decay'], group['momentum']
        if not momentum or group['dampening'] or group['nesterov']:
            moves = torch._foreach_add(grads, params, alpha=decay)
            torch._foreach_mul_(moves, list(rates.unbind()))
            if momentum:
                moves = self._with_momentum(params, moves, group)
            torch._foreach_sub_(params, moves)
            return
        # the usual case, without memory for the moves
        buffers = []
        for p in params:
            state = self.state[p]
            if 'momentum_buffer' not in state:
                state['momentum_buffer'] = torch.zeros_like(p)
            buffers.append(state['momentum_buffer'])
        torch._foreach_mul_(buffers, momentum)
        if decay:
            torch._foreach_addcmul_(
                buffers, params, list((decay * rates).unbind())
            )
        torch._foreach_addcmul_(buffers, grads, list(rates.unbind()))
        torch._foreach_sub_(params, buffers)

    def _with_momentum(
        self, params: list[Tensor], moves: list[Tensor], group: dict
    ) -> list[Tensor]:
        """Return the moves of the momentum buffers, which are updated."""
        momentum, known, news = group['momentum'], [], []
        buffers = []
        for p, move in zip(params, moves, strict=True):
            state = self.state[p]
            if 'momentum_buffer' in state:
                known.append(state['momentum_buffer'])
                news.append(move)
            else:
                state['momentum_buffer'] = move
            buffers.append(state['momentum_buffer'])
        if known:
            torch._foreach_mul_(known, momentum)
            torch._foreach_add_(known, news, alpha=1 - group['dampening'])
        if group['nesterov']:
            return torch._foreach_add(moves, buffers, alpha=momentum)
        return buffers
