"""What frozen features are worth."""

from .averages import average_metrics, last_metrics
from .cluster_alignment import align_clusters, cluster_alignment
from .features import extract_features
from .knn import (
    accuracies,
    knn_accuracy,
    knn_classify,
    majority_classify,
    nearest_neighbours,
)
from .linear_probe import linear_probe, stratified_subset
from .mutual_information import mutual_information

__all__ = [
    'accuracies',
    'align_clusters',
    'average_metrics',
    'cluster_alignment',
    'extract_features',
    'knn_accuracy',
    'knn_classify',
    'last_metrics',
    'linear_probe',
    'majority_classify',
    'mutual_information',
    'nearest_neighbours',
    'stratified_subset',
]
