"""Optimizers and optimizer wrappers."""

from .autocast_optim_wrapper import AutocastOptimWrapper
from .clipped_adamw import ClippedAdamW
from .foreach_lars import ForeachLARS
from .larc import LARC
from .merged_constructor import MergedConstructor

__all__ = [
    'LARC',
    'AutocastOptimWrapper',
    'ClippedAdamW',
    'ForeachLARS',
    'MergedConstructor',
]
