"""Policies of torchvision on the images of a pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from mmssd.datasets.transforms import TorchvisionAutoAugment


@pytest.mark.parametrize('policy', ['imagenet', 'cifar10'])
def test_equals_torchvision_in_rgb(policy):
    pixels = np.random.randint(0, 256, (12, 10, 3), np.uint8)
    own = TorchvisionAutoAugment(policy)
    theirs = AutoAugment(AutoAugmentPolicy(policy), fill=[128, 128, 128])
    changed = 0
    for seed in range(20):
        torch.manual_seed(seed)
        found = own(dict(img=pixels[..., ::-1], img_shape=(12, 10)))['img']
        torch.manual_seed(seed)
        expected = np.asarray(theirs(Image.fromarray(pixels)))
        assert np.array_equal(found[..., ::-1], expected)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        changed += not np.array_equal(expected, pixels)
    assert changed > 10


def test_policies_differ():
    """Of the two, only that of CIFAR-10 shifts the image."""

    def operations(policy):
        rows = TorchvisionAutoAugment(policy).augment.policies
        assert len(rows) == 25
        return {name for row in rows for name, *_ in row}

    assert 'TranslateY' in operations('cifar10')
    assert 'TranslateY' not in operations('imagenet')
    assert "policy='cifar10'" in repr(TorchvisionAutoAugment('cifar10'))


def test_refuses():
    with pytest.raises(ValueError, match="policy='cifar100'.*'imagenet'"):
        TorchvisionAutoAugment('cifar100')
    with pytest.raises(ValueError, match='fill=256'):
        TorchvisionAutoAugment(fill=256)
