"""Classifiers that judge a pretrained backbone."""

from .frozen_classifier import FrozenClassifier

__all__ = [
    'FrozenClassifier',
]
