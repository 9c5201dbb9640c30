"""Building blocks without parameters of their own objective."""

from .checkpoint import CheckpointError, load_checkpoint
from .feature_queue import FeatureQueue
from .gradient_reversal import GradientReversal, reverse_gradient
from .multi_crop_preprocessor import MultiCropPreprocessor
from .plan import Duration, SetupError, TrainingPlan
from .progress import training_progress
from .sinkhorn import sinkhorn
from .step import Encodings, Needs, Step, merge_needs, pool_features

__all__ = [
    'CheckpointError',
    'Duration',
    'Encodings',
    'FeatureQueue',
    'GradientReversal',
    'MultiCropPreprocessor',
    'Needs',
    'SetupError',
    'Step',
    'TrainingPlan',
    'load_checkpoint',
    'merge_needs',
    'pool_features',
    'reverse_gradient',
    'sinkhorn',
    'training_progress',
]
