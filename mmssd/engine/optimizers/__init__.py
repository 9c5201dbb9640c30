"""Optimizers and optimizer wrappers."""

from .autocast_optim_wrapper import AutocastOptimWrapper
from .larc import LARC

__all__ = ['LARC', 'AutocastOptimWrapper']
