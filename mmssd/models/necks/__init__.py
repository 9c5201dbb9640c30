"""Projectors between the backbone and the objectives."""

from .dropout_projection_neck import DropoutProjectionNeck

__all__ = ['DropoutProjectionNeck']
