"""Formulas of the objectives: pure functions and thin modules."""

from .attention_transfer import AttentionTransferLoss, attention_transfer
from .embedding_mse import EmbeddingMSELoss, embedding_mse
from .info_nce import InfoNCELoss, in_batch_info_nce, info_nce
from .logit_distillation import LogitDistillationLoss, logit_distillation
from .noise_contrast import match_scores, noise_contrast
from .nt_xent import nt_xent
from .partial_l2 import PartialL2Loss, feature_l2, partial_l2
from .relation import RelationLoss, relation_angle, relation_distance
from .self_distillation import self_distillation
from .similarity_distillation import (
    CompressLoss,
    SimilarityDistillationLoss,
    compress,
    similarity_distillation,
)
from .swapped_prediction import SwappedPredictionLoss, swapped_prediction

__all__ = [
    'AttentionTransferLoss',
    'CompressLoss',
    'EmbeddingMSELoss',
    'InfoNCELoss',
    'LogitDistillationLoss',
    'PartialL2Loss',
    'RelationLoss',
    'SimilarityDistillationLoss',
    'SwappedPredictionLoss',
    'attention_transfer',
    'compress',
    'embedding_mse',
    'feature_l2',
    'in_batch_info_nce',
    'info_nce',
    'logit_distillation',
    'match_scores',
    'noise_contrast',
    'nt_xent',
    'partial_l2',
    'relation_angle',
    'relation_distance',
    'self_distillation',
    'similarity_distillation',
    'swapped_prediction',
]
