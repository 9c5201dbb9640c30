"""Formulas of the objectives: pure functions and thin modules."""

from .swapped_prediction import SwappedPredictionLoss, swapped_prediction

__all__ = ['SwappedPredictionLoss', 'swapped_prediction']
