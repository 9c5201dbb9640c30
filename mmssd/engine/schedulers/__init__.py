"""Learning rate schedules that the ecosystem lacks."""

from .seed_lr import SEEDLR

__all__ = ['SEEDLR']
