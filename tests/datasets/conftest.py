from types import SimpleNamespace

import numpy as np
import pytest

from mmssd.datasets.fashion_mnist import FashionMNISTArrays


def square(top, left, height, width, value=200):
    """A rectangle on black, 28 x 28."""
    image = np.zeros((28, 28), np.uint8)
    image[top : top + height, left : left + width] = value
    return image


@pytest.fixture
def garments():
    """Forty train and twenty val rectangles of ten classes."""

    def make(count, first):
        images = np.stack(
            [
                square(2, 3, 10 + (first + i) % 14, 22 - (first + i) % 9)
                for i in range(count)
            ]
        )
        images[:, 5, 5] = first + np.arange(count) + 1  # all different
        return images, np.arange(count, dtype=np.uint8) % 10

    return FashionMNISTArrays(*make(40, 0), *make(20, 100))


@pytest.fixture
def small(tmp_path, garments):
    """A small set of scenes, made once per test."""
    from mmssd.datasets.garment_scenes import make_garment_scenes

    folder = tmp_path / 'scenes'
    manifest = make_garment_scenes(
        folder, garments, single=(30, 20), multi=(6, 3), num_workers=1
    )
    return SimpleNamespace(folder=folder, manifest=manifest)
