"""mmpretrain's LARS without waiting for the device."""

from collections.abc import Callable, Iterable

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
        v \leftarrow \mu v + \gamma\,\eta\,
        \frac{\|p\|}{\|g\| + \lambda\|p\| + \epsilon}\,(g + \lambda p),
        \qquad p \leftarrow p - v

    with learning rate :math:`\gamma`, coefficient :math:`\eta`, weight decay
    :math:`\lambda` and momentum :math:`\mu`; where a norm is zero, or the
    tensor is spared, the fraction and :math:`\eta` are one. `Large Batch
    Training of Convolutional Networks <https://arxiv.org/abs/1708.03888>`_,
    algorithm 1, as BYOL and SimCLR use it.

    mmpretrain's reads both norms of each tensor, so the host waits for the
    device twice a tensor; here it never does. Arguments and state are the
    same, and a run can go on with either.

    Raises:
        ValueError: for dampening or Nesterov's momentum, which mmpretrain's
            ``LARS`` has and this does not; or as there.
        RuntimeError: in a step, for a sparse gradient.
    """

    def __init__(self, params: Iterable, **kwargs) -> None:
        super().__init__(params, **kwargs)
        for group in self.param_groups:
            for name in ('dampening', 'nesterov'):
                if group[name]:
                    raise ValueError(
                        f'{name}={group[name]}: ForeachLARS has none; take '
                        "type='LARS'"
                    )

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
        if group['momentum']:
            steps, scale = [], 1.0
            for p in params:
                state = self.state[p]
                if 'momentum_buffer' not in state:
                    state['momentum_buffer'] = torch.zeros_like(p)
                steps.append(state['momentum_buffer'])
            torch._foreach_mul_(steps, group['momentum'])
        else:
            steps, scale = params, -1.0
        # two products in place: a sum g + decay p would need its own memory
        if group['weight_decay']:
            decays = list((group['weight_decay'] * rates).unbind())
            torch._foreach_addcmul_(steps, params, decays, scale)
        torch._foreach_addcmul_(steps, grads, list(rates.unbind()), scale)
        if group['momentum']:
            torch._foreach_sub_(params, steps)
