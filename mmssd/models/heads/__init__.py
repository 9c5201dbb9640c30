"""Objectives: one file each."""

from .base_head import DistillHead
from .feature_classifier_head import FeatureClassifierHead, dann_ramp
from .online_clustering_head import OnlineClusteringHead

__all__ = [
    'DistillHead',
    'FeatureClassifierHead',
    'OnlineClusteringHead',
    'dann_ramp',
]
