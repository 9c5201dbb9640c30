"""Where the random numbers of views come from.

Shape legend: N images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

VIEW_KEY = 'view_key'  # in the meta data of an image
# increment and multipliers of SplitMix64 (Steele, Lea and Flood, 2014)
GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def mix(state: np.ndarray) -> np.ndarray:
    """Scatter 64-bit states, by the output function of SplitMix64.

    Args:
        state: uint64, of any shape.

    Returns:
        uint64 of the same shape; a bijection.
    """
    first, second = (np.uint64(m) for m in MULTIPLIERS)
    state = (state ^ (state >> np.uint64(30))) * first
    state = (state ^ (state >> np.uint64(27))) * second
    return state ^ (state >> np.uint64(31))


def key_states(keys: np.ndarray) -> np.ndarray:
    """Return the start of a stream of random numbers for every key.

    Args:
        keys: ``(N, 3)`` integers >= 0: seed, image and draw.

    Returns:
        ``(N,)`` uint64.
    """
    keys = np.asarray(keys).astype(np.uint64)
    state = np.zeros(len(keys), dtype=np.uint64)
    for column in keys.T:
        state = mix(state + np.uint64(GOLDEN) + column)
    return state


def view_keys(data_samples: Tensor | Sequence | None) -> Tensor | None:
    """Return the keys that :class:`~mmssd.datasets.SeededViews` gave.

    Args:
        data_samples: of a batch.

    Returns:
        ``(N, 3)`` seed, image and draw, on the CPU; ``None`` if the views
        are not seeded.
    """
    if isinstance(data_samples, Tensor):
        ours = data_samples.dim() == 2 and data_samples.size(1) == 3
        return data_samples if ours else None
    keys = [
        sample.get(VIEW_KEY) if hasattr(sample, 'get') else None
        for sample in data_samples or ()
    ]
    if not keys or None in keys:
        return None
    return torch.tensor(keys)


class GlobalDraws:
    """Random numbers of torch's own generators.

    Args:
        device: of the numbers.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = device

    def uniform(
        self, shape: Sequence[int], low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """Return numbers in ``[low, high)``."""
        return torch.empty(*shape, device=self.device).uniform_(low, high)

    def orders(self, length: int) -> list[tuple[list[int], Tensor | None]]:
        """Return one permutation, which serves all images (``None``)."""
        return [(torch.randperm(length).tolist(), None)]


class SeededDraws:
    """Random numbers that depend on seed, image and draw alone.

    Whatever the batch, its order, the device or the state of any generator,
    an image in its d-th draw gets the same numbers. They are made on the
    host, in few bytes, so nothing waits for the device.

    Args:
        keys: ``(N, 3)`` integers >= 0 on the CPU: seed, image and draw.
        device: of the numbers.
    """

    def __init__(
        self,
        keys: Tensor | np.ndarray,
        device: torch.device | str | None = None,
    ) -> None:
        self.state = key_states(np.asarray(keys))
        self.device = torch.device(device or 'cpu')
        self._drawn = 0

    def _to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == 'cuda':
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _next(self, rows: int) -> np.ndarray:
        """The next ``(rows, N)`` numbers in [0, 1) of all streams."""
        steps = np.arange(self._drawn + 1, self._drawn + rows + 1)
        self._drawn += rows
        steps = steps.astype(np.uint64) * np.uint64(GOLDEN)
        bits = mix(self.state + steps[:, None])
        # 24 bits, what a float32 can hold
        return (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)

    def uniform(
        self, shape: Sequence[int], low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """Return numbers in ``[low, high)``; the last size must be N."""
        *lead, number = shape
        if number != len(self.state):
            raise ValueError(
                f'numbers for {number} images of {len(self.state)} keys'
            )
        rows = self._next(int(np.prod(lead, dtype=int)))
        values = low + rows.reshape(*shape) * np.float32(high - low)
        return self._to_device(values.astype(np.float32))

    def orders(self, length: int) -> list[tuple[list[int], Tensor | None]]:
        """Return permutations, each with the indices of its images."""
        found = self._next(length).argsort(axis=0, kind='stable').T
        orders, group = np.unique(found, axis=0, return_inverse=True)
        group = group.reshape(-1)
        return [
            (order.tolist(), self._to_device(np.flatnonzero(group == number)))
            for number, order in enumerate(orders)
        ]
