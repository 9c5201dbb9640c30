"""What frozen features are worth."""

from .features import extract_features
from .knn import knn_accuracy, knn_classify
from .linear_probe import linear_probe, stratified_subset
from .mutual_information import mutual_information

__all__ = [
    'extract_features',
    'knn_accuracy',
    'knn_classify',
    'linear_probe',
    'mutual_information',
    'stratified_subset',
]
