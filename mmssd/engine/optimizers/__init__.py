"""Optimizers and optimizer wrappers."""

from .autocast_optim_wrapper import AutocastOptimWrapper
from .clipped_adamw import ClippedAdamW
from .larc import LARC
from .merged_constructor import MergedConstructor

__all__ = ['LARC', 'AutocastOptimWrapper', 'ClippedAdamW', 'MergedConstructor']
