"""Views that can be made again: one seed for every draw of every image."""

import hashlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmpretrain.registry import DATASETS
from torch.utils.data import Dataset

from mmssd.models.utils.plan import SetupError
from mmssd.models.utils.view_draws import VIEW_KEY, key_states


@contextmanager
def seeded(key: Sequence[int]) -> Iterator[None]:
    """Start the generators of Python, NumPy and torch (CPU) from a key.

    Afterwards they go on as if nothing had been drawn.

    Args:
        key: seed, image and draw, integers >= 0.
    """
    state = int(key_states(np.array([key]))[0])
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(state)
    np.random.seed([state & 0xFFFFFFFF, state >> 32])
    torch.default_generator.manual_seed(state >> 1)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def with_key(item: dict, key: Sequence[int]) -> dict:
    """Return an item with the key of its draw.

    Args:
        item: of a pipeline.
        key: seed, image and draw.
    """
    samples = item.get('data_samples')
    if samples is None:
        return dict(item, data_samples=torch.tensor(key))
    samples.set_metainfo({VIEW_KEY: tuple(key)})
    return item


def _plain(value: Any) -> Any:
    """A config as JSON can hold it, tuples and lists alike."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, '__name__', None) or repr(value)


def _pipelines(config: Any) -> list:
    """Every ``pipeline`` inside a data set config, outer ones first."""
    found = []
    if isinstance(config, Mapping):
        if 'pipeline' in config:
            found.append(_plain(config['pipeline']))
        parts = [v for k, v in config.items() if k != 'pipeline']
    else:
        parts = config if isinstance(config, (list, tuple)) else []
    for part in parts:
        found += _pipelines(part)
    return found


@DATASETS.register_module()
class SeededViews(Dataset):
    """A data set whose views of an image are some that are drawn in advance.

    Whatever is random in the pipeline (Python, NumPy, torch) starts from a
    seed made of ``seed``, the index of the image and the number of the draw;
    which of the ``draws`` comes up is random, every time. So the views of
    draw d of image i are the same in every epoch, run and process, and what
    a frozen teacher says of them can be computed once, see
    ``tools/cache_teacher.py``. Views made by ``MultiCropPreprocessor``
    follow the same seeds.

    Each item gets its key ``(seed, image, draw)``: as ``view_key`` in the
    meta data of its ``data_samples``, or, if it has none (``PackImage``), as
    a tensor in their place.

    Args:
        dataset (dict | Dataset): with a pipeline.
        draws (int): how many sets of views an image has. Defaults to 10.
        seed (int): of all. Defaults to 0.

    Raises:
        ValueError: for ``draws`` below 1 or a negative seed.

    Note:
        An image that cannot be read is replaced by others, in an order that
        the seed fixes as well; do not repair files between two uses.
    """

    def __init__(
        self, dataset: dict | Dataset, draws: int = 10, seed: int = 0
    ) -> None:
        if draws < 1 or seed < 0:
            raise ValueError(
                f'draws={draws}, seed={seed} of SeededViews: give at least '
                'one draw and a seed >= 0'
            )
        self.config = dataset if isinstance(dataset, Mapping) else None
        self.dataset = (
            dataset if self.config is None else DATASETS.build(dataset)
        )
        self.draws = draws
        self.seed = seed
        self._data_hash: str | None = None

    @property
    def metainfo(self) -> dict:
        """That of the data set inside."""
        return getattr(self.dataset, 'metainfo', {})

    def full_init(self) -> None:
        """Complete the data set inside."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """Return an image in one of its draws."""
        return self.view(index, int(torch.randint(self.draws, ())))

    def view(self, index: int, draw: int) -> dict:
        """Return an image in one draw.

        Args:
            index: of the image.
            draw: below ``draws``.

        Raises:
            IndexError: if there is no such draw.
        """
        if not 0 <= draw < self.draws:
            raise IndexError(f'draw {draw} of {self.draws}')
        key = (self.seed, int(index), draw)
        with seeded(key):
            item = self.dataset[index]
        return with_key(item, key)

    # --- what a cache is compared by ----------------------------------------

    def recipe(self) -> dict:
        """Return what the views depend on besides images and preprocessor.

        Raises:
            SetupError: if the data set was not given as a config, so that
                its pipeline cannot be written down.
        """
        if self.config is None:
            raise SetupError(
                'SeededViews was given a built data set: a cache of its '
                'views needs the config, dataset=dict(type=..., pipeline='
                '[...])'
            )
        return dict(
            pipelines=_pipelines(self.config),
            draws=self.draws,
            seed=self.seed,
        )

    def data_hash(self) -> str:
        """Return the SHA-256 of the list of images, in order.

        Of files their paths below ``data_root`` count, of images in memory
        their pixels.

        Raises:
            SetupError: if the data set tells neither.
        """
        if self._data_hash is None:
            self.full_init()
            self._data_hash = _hash_images(self.dataset)
        return self._data_hash


def _hash_images(dataset: Dataset) -> str:
    digest = hashlib.sha256(str(len(dataset)).encode())
    if hasattr(dataset, 'arrays'):
        images = dataset.arrays()[0]
        digest.update(str(images.shape).encode())
        for start in range(0, len(images), 1024):
            block = images[start : start + 1024]
            digest.update(np.ascontiguousarray(block))
        return digest.hexdigest()
    for index in range(len(dataset)):
        info = (
            dataset.get_data_info(index)
            if hasattr(dataset, 'get_data_info')
            else {}
        )
        if 'img_path' not in info:
            raise SetupError(
                f'{type(dataset).__name__} does not say which image is '
                f'number {index} (img_path): its views cannot be cached'
            )
        digest.update(_below_root(dataset, str(info['img_path'])).encode())
        digest.update(b'\n')
    return digest.hexdigest()


def _below_root(dataset: Dataset, path: str) -> str:
    root = getattr(dataset, 'data_root', None)
    return os.path.relpath(path, root) if root else path
