"""Learned augmentation policies, by torchvision."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torchvision.transforms import AutoAugment, AutoAugmentPolicy


@TRANSFORMS.register_module()
class TorchvisionAutoAugment(BaseTransform):
    """AutoAugment with any of its three published policies.

    `AutoAugment: Learning Augmentation Policies from Data
    <https://arxiv.org/abs/1805.09501>`_, appendix; mmpretrain has that of
    ImageNet only. "Distilling Visual Priors from Self-Supervised Learning"
    names AutoAugment for ImageNet, its code has the policy of CIFAR-10.

    Required and modified key: ``img`` ``(H, W, 3)`` uint8, BGR.

    Args:
        policy (str): ``'imagenet'``, ``'cifar10'`` or ``'svhn'``. Defaults
            to ``'imagenet'``.
        fill (int): grey value of pixels from outside of the image, in
            [0, 255]. Defaults to 128.

    Raises:
        ValueError: for an unknown policy or a value out of range.
    """

    def __init__(self, policy: str = 'imagenet', fill: int = 128) -> None:
        known = [p.value for p in AutoAugmentPolicy]
        if policy not in known:
            raise ValueError(f'policy={policy!r}: must be one of {known}')
        if not 0 <= fill <= 255:
            raise ValueError(f'fill={fill}: must be in [0, 255]')
        self.policy = policy
        self.augment = AutoAugment(AutoAugmentPolicy(policy), fill=[fill] * 3)

    def transform(self, results: dict) -> dict:
        """Apply a policy that is drawn with torch's generator.

        Args:
            results (dict): of the pipeline.

        Returns:
            dict: the same, with the new image.
        """
        image = Image.fromarray(
            np.ascontiguousarray(results['img'][..., ::-1])
        )
        image = np.asarray(self.augment(image))
        results['img'] = np.ascontiguousarray(image[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(policy={self.policy!r})'
