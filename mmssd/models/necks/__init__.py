"""Projectors between the backbone and the objectives."""

from .dino_projection_neck import DINOProjectionNeck
from .dropout_projection_neck import DropoutProjectionNeck

__all__ = ['DINOProjectionNeck', 'DropoutProjectionNeck']
