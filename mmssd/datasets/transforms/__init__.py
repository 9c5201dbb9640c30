"""Pipeline steps that mmpretrain lacks."""

from .formatting import PackImage
from .loading import LoadImage

__all__ = ['LoadImage', 'PackImage']
