"""Objectives: one file each."""

from .attention_transfer_head import AttentionTransferHead
from .base_head import DistillHead
from .contrastive_representation_head import ContrastiveRepresentationHead
from .delayed_head import DelayedHead
from .dino_head import DINOHead
from .embedding_head import EmbeddingHead
from .feature_classifier_head import FeatureClassifierHead, dann_ramp
from .instance_contrast_head import InstanceContrastHead
from .logit_head import LogitHead
from .momentum_contrast_head import MomentumContrastHead
from .online_clustering_head import OnlineClusteringHead
from .overhaul_head import OverhaulHead
from .prediction_head import PredictionHead
from .relation_head import RelationHead
from .similarity_queue_head import SimilarityQueueHead

__all__ = [
    'AttentionTransferHead',
    'ContrastiveRepresentationHead',
    'DINOHead',
    'DelayedHead',
    'DistillHead',
    'EmbeddingHead',
    'FeatureClassifierHead',
    'InstanceContrastHead',
    'LogitHead',
    'MomentumContrastHead',
    'OnlineClusteringHead',
    'OverhaulHead',
    'PredictionHead',
    'RelationHead',
    'SimilarityQueueHead',
    'dann_ramp',
]
