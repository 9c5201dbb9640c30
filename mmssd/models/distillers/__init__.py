"""Algorithms: which network sees what, and in which order."""

from .distill_classifier import DistillClassifier
from .distiller import Distiller
from .encodings import Encodings, Needs, Step, pool_features
from .momentum import MomentumStudent
from .teacher import Teacher

__all__ = [
    'DistillClassifier',
    'Distiller',
    'Encodings',
    'MomentumStudent',
    'Needs',
    'Step',
    'Teacher',
    'pool_features',
]
