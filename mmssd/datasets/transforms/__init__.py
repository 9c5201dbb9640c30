"""Pipeline steps that mmpretrain lacks."""

from .corner_crop import CornerCrop
from .formatting import PackImage
from .loading import LoadImage

__all__ = ['CornerCrop', 'LoadImage', 'PackImage']
