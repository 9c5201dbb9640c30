"""Testing by the average over crops and over networks."""

from .average_score import AverageScoreTTA
from .ensemble import EnsembleClassifier

__all__ = [
    'AverageScoreTTA',
    'EnsembleClassifier',
]
