"""Pipeline steps that mmpretrain lacks."""

from .auto_augment import TorchvisionAutoAugment
from .corner_crop import CornerCrop
from .formatting import PackImage
from .loading import LoadImage

__all__ = ['CornerCrop', 'LoadImage', 'PackImage', 'TorchvisionAutoAugment']
