"""Projectors between the backbone and the objectives."""

from .dino_projection_neck import DINOProjectionNeck
from .dropout_projection_neck import DropoutProjectionNeck
from .mlp_neck import MLPNeck

__all__ = [
    'DINOProjectionNeck',
    'DropoutProjectionNeck',
    'FeatureNormNeck',
    'MLPNeck',
]
__all__ = ['DropoutProjectionNeck', 'MLPNeck']
from .feature_norm_neck import FeatureNormNeck

__all__ = ['DropoutProjectionNeck', 'FeatureNormNeck']
