"""Logged numbers that wait on the device until someone reads them."""

from collections import OrderedDict

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmpretrain.registry import HOOKS
from torch import Tensor

MOST_WAITING = 1000  # numbers of a key, where nobody reads
LEAST_ROOM = 1024  # entries


def _stays(value: object) -> bool:
    """Whether a number would make the host wait for a device."""
    return isinstance(value, Tensor) and value.device.type != 'cpu'


def _transfer(values: list[Tensor]) -> list[float]:
    """Bring numbers of one device and type to the host."""
    return torch.stack(values).tolist()


class _Column:
    """Numbers in memory that grows by an eighth when it is used up."""

    def __init__(self, values) -> None:
        self.memory = np.array(values)
        self.end = len(self.memory)

    def append(self, value: float, most: int) -> None:
        """Append a number; keep at least the last ``most``."""
        kind = np.result_type(self.memory, type(value))  # as np.append
        if self.end == len(self.memory) or kind != self.memory.dtype:
            kept = self.last(most)
            self.end = len(kept)
            room = self.end + max(self.end // 8, LEAST_ROOM)
            self.memory = np.empty(room, kind)
            self.memory[: self.end] = kept
        self.memory[self.end] = value
        self.end += 1

    def last(self, most: int) -> np.ndarray:
        """Return the last numbers, at most so many, without a copy."""
        return self.memory[max(self.end - most, 0) : self.end]


class ScalarHistory(HistoryBuffer):
    """mmengine's history, which is not copied for every entry.

    mmengine copies the whole history of every number in every iteration,
    which takes milliseconds after a million of them, the length of 200 epochs
    of ImageNet. A deep copy, as a file gets it, is of mmengine's own class.

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
        self._logs, self._counts = _Column(log_history), _Column(count_history)

    @property
    def _log_history(self) -> np.ndarray:
        return self._logs.last(self.max_length)

    @property
    def _count_history(self) -> np.ndarray:
        return self._counts.last(self.max_length)

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
        self._logs.append(log_val, self.max_length)
        self._counts.append(count, self.max_length)

    def __deepcopy__(self, memo: dict) -> HistoryBuffer:
        # the constructor warns beyond max_length, which is not exceeded
        return HistoryBuffer(
            self._log_history, self._count_history, self.max_length
        )


class DeferredMessageHub(MessageHub):
    """mmengine's hub, which does not wait for the device on every number.

    A number on a device stays there until a number of its name is asked
    for, all are, the state is saved, or a thousand of its name wait; then
    all that wait come, in one transfer for each device and type. What is
    read is the same as of ``MessageHub``.
    """

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, **kwargs)
        self._waiting: dict[str, list[tuple[object, int]]] = {}

    @classmethod
    def adopt(cls, hub: MessageHub) -> None:
        """Turn a hub into one of this kind, in place.

        Loggers, wrappers and mmengine's table of instances all hold the hub
        of a run already, so it cannot be replaced.

        Args:
            hub: as the runner made it; one of another class is left as it
                is.
        """
        if type(hub) is MessageHub:
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
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(
                f'{key} has shape {tuple(value.shape)}: only single numbers '
                'have a history'
            )
        self._set_resumed_keys(key, resumed)
        if _stays(value):
            # a copy: the tensor may change before it is read
            value = value.detach().clone().reshape(())
        else:
            value = self._get_valid_value(value)
        self._log_scalars.setdefault(key, None)  # in the order of arrival
        if key not in self._waiting and not isinstance(value, Tensor):
            self._append(key, value, count)
            return
        entries = self._waiting.setdefault(key, [])
        entries.append((value, count))
        if len(entries) >= MOST_WAITING:
            self.fetch()

    def _append(self, key: str, value: float, count: int) -> None:
        history = self._log_scalars[key]
        if history is None:
            self._log_scalars[key] = ScalarHistory([value], [count])
            return
        if not isinstance(history, ScalarHistory):  # of a checkpoint
            history = ScalarHistory(*history.data, history.max_length)
            self._log_scalars[key] = history
        history.update(value, count)

    def fetch(self) -> None:
        """Bring every number that waits."""
        alike: dict[tuple, list[Tensor]] = {}
        for entries in self._waiting.values():
            for value, _ in entries:
                if isinstance(value, Tensor):
                    kind = value.device, value.dtype
                    alike.setdefault(kind, []).append(value)
        found = {
            kind: iter(_transfer(values)) for kind, values in alike.items()
        }
        waiting, self._waiting = self._waiting, {}
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
        return super().state_dict()


# mmengine finds hubs by their class
DeferredMessageHub._instance_dict = MessageHub._instance_dict


@HOOKS.register_module()
class DeferredScalarsHook(Hook):
    """Let logged numbers wait on the device until the log is written.

    mmengine's ``RuntimeInfoHook`` turns every number that a model returns
    into one of Python, in every iteration, for each of which the host waits
    until the device has caught up; and the history of each number is copied
    in every iteration. The numbers that are logged and saved stay the same.

    Note:
        Without the waits, ``time`` of an iteration is that of the host, which
        runs ahead of a GPU by as much as its queue holds; over the iterations
        between two looks at the device it is right on average.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner) -> None:
        """Change the runner's message hub."""
        DeferredMessageHub.adopt(runner.message_hub)
