"""Logged numbers that wait on the device until someone reads them."""

from collections import OrderedDict

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmpretrain.registry import HOOKS
from torch import Tensor

MOST_WAITING = 1000  # numbers of a key, where nobody reads
FIRST_ROOM = 1024  # entries


def _stays(value: object) -> bool:
    """Whether a number would make the host wait for a device."""
    return isinstance(value, Tensor) and value.device.type != 'cpu'


class ScalarHistory(HistoryBuffer):
    """mmengine's history, in memory that grows by doubling.

    mmengine copies the whole history of every number in every iteration:
    16 ms an iteration for ten numbers after a million of them, the length of
    200 epochs of ImageNet. Here an entry costs the same all along.

    Args:
        log_history (Sequence): numbers so far. Defaults to none.
        count_history (Sequence): how many values each stands for.
        max_length (int): the last entries that are kept. Defaults to a
            million, as mmengine's.
    """

    def __init__(
        self, log_history=(), count_history=(), max_length: int = 1_000_000
    ) -> None:
        self._set_default_statistics()
        self.max_length = max_length
        self._rows = np.array([log_history, count_history], dtype=np.float64)
        self._end = self._rows.shape[1]

    @property
    def _kept(self) -> slice:
        return slice(max(self._end - self.max_length, 0), self._end)

    @property
    def _log_history(self) -> np.ndarray:
        return self._rows[0, self._kept]

    @property
    def _count_history(self) -> np.ndarray:
        return self._rows[1, self._kept]

    def update(self, log_val: float, count: int = 1) -> None:
        """Append an entry.

        Args:
            log_val: number.
            count: how many values it stands for.

        Raises:
            TypeError: if one is no number.
        """
        for name, value in (('log_val', log_val), ('count', count)):
            if not isinstance(value, (int, float)):
                raise TypeError(
                    f'{name}={value!r} ({type(value).__name__}): must be int '
                    'or float'
                )
        if self._end == self._rows.shape[1]:
            kept = self._rows[:, self._kept]
            self._end = kept.shape[1]
            room = max(2 * self._end, FIRST_ROOM)
            self._rows = np.empty((2, room))
            self._rows[:, : self._end] = kept
        self._rows[:, self._end] = log_val, count
        self._end += 1

    def plain(self) -> HistoryBuffer:
        """Return a copy of mmengine's own class, for files."""
        # the constructor warns beyond max_length, which is not exceeded
        return HistoryBuffer(
            self._log_history.copy(),
            self._count_history.copy(),
            self.max_length,
        )


class DeferredMessageHub(MessageHub):
    """mmengine's hub, which does not wait for the device on every number.

    A number on a device stays there until a number of its name is asked
    for, all are, or the state is saved; then everything comes in one transfer.
    What is read is the same as of ``MessageHub``.
    """

    _waiting: dict[str, list[tuple[object, int]]]

    @classmethod
    def adopt(cls, hub: MessageHub) -> None:
        """Turn a hub into one of this kind, in place.

        Loggers, wrappers and mmengine's table of instances all hold the hub
        of a run already, so it cannot be replaced.

        Args:
            hub: as the runner made it.
        """
        if isinstance(hub, cls):
            return
        hub.__class__ = cls
        hub._waiting = {}

    def update_scalar(
        self, key: str, value, count: int = 1, resumed: bool = True
    ) -> None:
        """Append a number to the history of its name.

        Args:
            key: name.
            value: Python's number, or an array or tensor of one element.
            count: how many values it stands for.
            resumed: whether the history is saved.

        Raises:
            ValueError: for a tensor of several elements.
            TypeError: for a count that is no integer.
        """
        if not isinstance(count, int):
            raise TypeError(f'count={count!r} of {key}: must be an integer')
        self._set_resumed_keys(key, resumed)
        if _stays(value):
            if value.numel() != 1:
                raise ValueError(
                    f'{key} has shape {tuple(value.shape)}: only single '
                    'numbers have a history'
                )
            # a copy: the tensor may change before it is read
            value = value.detach().clone().reshape(())
        else:
            value = self._get_valid_value(value)
        if key in self._waiting or isinstance(value, Tensor):
            entries = self._waiting.setdefault(key, [])
            entries.append((value, count))
            if len(entries) >= MOST_WAITING:
                self.fetch()
        else:
            self._append(key, value, count)

    def _append(self, key: str, value: float, count: int) -> None:
        history = self._log_scalars.get(key)
        if not isinstance(history, ScalarHistory):
            # none so far, or one of a checkpoint
            known = () if history is None else (*history.data,)
            length = (
                {} if history is None else {'max_length': history.max_length}
            )
            history = ScalarHistory(*known, **length)
            self._log_scalars[key] = history
        history.update(value, count)

    def fetch(self) -> None:
        """Bring every number that waits, in one transfer per device."""
        waiting, self._waiting = self._waiting, {}
        alike: dict[tuple, list[Tensor]] = {}
        for entries in waiting.values():
            for value, _ in entries:
                if isinstance(value, Tensor):
                    kind = value.device, value.dtype
                    alike.setdefault(kind, []).append(value)
        found = {
            kind: iter(torch.stack(values).tolist())
            for kind, values in alike.items()
        }
        for key, entries in waiting.items():
            for value, count in entries:
                if isinstance(value, Tensor):
                    value = next(found[value.device, value.dtype])
                self._append(key, value, count)

    @property
    def log_scalars(self) -> OrderedDict:
        """All histories, by name."""
        self.fetch()
        return self._log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Return the history of a name.

        Args:
            key: name.

        Raises:
            KeyError: if there is none.
        """
        # the timer asks for its own number in every iteration
        if key in self._log_scalars and key not in self._waiting:
            return self._log_scalars[key]
        return super().get_scalar(key)

    def state_dict(self) -> dict:
        """Return what a checkpoint keeps, in mmengine's own classes."""
        self.fetch()
        state = super().state_dict()
        for key, history in state['log_scalars'].items():
            if isinstance(history, ScalarHistory):
                state['log_scalars'][key] = history.plain()
        return state


@HOOKS.register_module()
class DeferredScalarsHook(Hook):
    """Let logged numbers wait on the device until the log is written.

    mmengine's ``RuntimeInfoHook`` turns every number that a model returns
    into one of Python, in every iteration, for each of which the host waits
    until the device has caught up; and the history of each number is copied
    in every iteration. What is logged and saved stays the same.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner) -> None:
        """Change the runner's message hub."""
        DeferredMessageHub.adopt(runner.message_hub)
