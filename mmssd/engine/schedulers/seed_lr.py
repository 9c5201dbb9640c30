"""SEED's learning rate: warm-up from the unscaled value, then cosine."""

import math

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmpretrain.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class SEEDLR(LRSchedulerMixin, _ParamScheduler):
    r"""The learning rate rule of SEED's code.

    For epoch e, counted from 0, with the optimizer's rate :math:`\eta` (that
    of the whole batch) and the rate :math:`\eta_0` of one batch of 256:

    .. math::
        \eta(e) = \begin{cases}
        \eta_0 + (\eta - \eta_0)\, e / W & e < W \\
        \eta \, \tfrac{1}{2} (1 + \cos(\pi e / T)) & e \ge W
        \end{cases}

    At batch 256 the two rates are equal and there is no warm-up; below it
    the first epochs go *down* to :math:`\eta`. The cosine counts from epoch
    0, so the rate drops a little at epoch W. Both rates are those of the
    group with the largest; others keep their ratio to it. `SEED
    <https://arxiv.org/abs/2101.04731>`_; the rule stands in its code alone.
    The usual warm-up is mmengine's ``LinearLR`` before
    ``CosineAnnealingLR``.

    Args:
        optimizer: the optimizer (wrapper); its ``lr`` is :math:`\eta`, as
            ``--auto-scale-lr`` leaves it.
        unscaled_lr (float): :math:`\eta_0` > 0. SEED has 0.03.
        T_max (int): T, epochs of the whole training.
        warmup (int): W in [0, T]. Defaults to 5.
        **kwargs: ``begin``, ``end``, ``last_step``, ``verbose`` of mmengine.
            ``by_epoch`` must be True.

    Raises:
        ValueError: for an argument out of range.
    """

    def __init__(
        self,
        optimizer,
        unscaled_lr: float,
        T_max: int,  # as mmengine spells it
        warmup: int = 5,
        **kwargs,
    ) -> None:
        if not (unscaled_lr > 0 and math.isfinite(unscaled_lr)):
            raise ValueError(f'unscaled_lr={unscaled_lr}: must be > 0')
        if not 0 <= warmup <= T_max or T_max < 1:
            raise ValueError(
                f'warmup={warmup}, T_max={T_max}: must satisfy 0 <= warmup '
                '<= T_max and T_max >= 1, in epochs'
            )
        if not kwargs.setdefault('by_epoch', True):
            raise ValueError(
                'by_epoch=False: SEEDLR changes the rate once an epoch'
            )
        self.unscaled_lr = unscaled_lr
        self.T_max = T_max
        self.warmup = warmup
        super().__init__(optimizer, **kwargs)

    def _get_value(self) -> list[float]:
        epoch = self.last_step
        if epoch < self.warmup:
            done = epoch / self.warmup
            # groups keep the ratio of their rates
            start = self.unscaled_lr / max(self.base_values)
            return [
                base * (start + (1 - start) * done)
                for base in self.base_values
            ]
        factor = 0.5 * (1 + math.cos(math.pi * epoch / self.T_max))
        return [base * factor for base in self.base_values]
