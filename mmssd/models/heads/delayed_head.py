"""Objectives that wait until the student has begun to learn its labels."""

from abc import abstractmethod

import torch
from torch import Tensor

from ..utils.plan import Duration, SetupError, TrainingPlan
from ..utils.step import Step
from .base_head import DistillHead


class DelayedHead(DistillHead):
    """An objective with one term that sets in later.

    Before its start the term is zero, and the head's parameters get a zero
    gradient instead of none, so that all of them take part in every step of
    a distributed run (weight decay and momentum act on them alike with any
    number of processes). The count of iterations is in the checkpoint.

    Args:
        start (int | dict): number of first iterations, or
            ``dict(epochs=n)``, without it; ``dict(epochs=4)`` lets it begin
            with the fifth epoch.
        init_cfg (dict, optional): mmengine's initialisation config.

    Attributes:
        term: name of the logged term.

    Raises:
        ValueError: for a start that is no duration; in training, for one
            that is never reached.
    """

    term: str
    iteration: Tensor

    def __init__(
        self, start: int | dict = 0, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.start = Duration(start, 'start')
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))
        self._iteration = 0  # the same number on the host: no waiting

    @property
    def active(self) -> bool:
        """Whether the start is reached."""
        return self._iteration >= self.start.iterations

    @abstractmethod
    def distill(self, step: Step) -> Tensor:
        """Return the term of one step."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return the term, zero before the start."""
        if self.active:
            value = self.distill(step)
        else:
            value = self.iteration.new_zeros((), dtype=torch.float32)
            value = value + sum(0.0 * p.sum() for p in self.parameters())
        if self.training:
            self._iteration += 1
            self.iteration.fill_(self._iteration)
        return {self.term: value}

    def check(self, plan: TrainingPlan) -> None:
        """Resolve epochs; refuse a start after the end."""
        self.start.resolve(plan)
        if self.start.iterations >= plan.max_iters:
            raise SetupError(
                f'start={self.start.value} of {type(self).__name__} is '
                f'iteration {self.start.iterations}, but the training has '
                f'{plan.max_iters}: it would never distil; lower it'
            )

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.iteration.is_meta:
            self._iteration = int(self.iteration)
