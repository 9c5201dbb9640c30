"""Building blocks without parameters of their own objective."""

from .batchnorm_margin import batchnorm_margin
from .checkpoint import CheckpointError, load_checkpoint
from .collectives import (
    draw_permutation,
    gather_rows,
    mean_over_processes,
    shuffle_rows,
    unshuffle_rows,
)
from .feature_queue import FeatureQueue
from .gradient_reversal import GradientReversal, reverse_gradient
from .input_statistics import InputStatistics, input_statistics
from .layouts import (
    LAYOUTS,
    find_weights,
    map_weights,
    recognise,
    trained_input,
)
from .multi_crop_preprocessor import MultiCropPreprocessor
from .plan import Duration, SetupError, TrainingPlan
from .pre_relu import (
    PreReLUStage,
    collect_pre_relu,
    pre_relu_sizes,
    pre_relu_stages,
)
from .progress import training_progress
from .sinkhorn import sinkhorn
from .step import Encodings, Needs, Step, merge_needs, pool_features

__all__ = [
    'LAYOUTS',
    'CheckpointError',
    'Duration',
    'Encodings',
    'FeatureQueue',
    'GradientReversal',
    'InputStatistics',
    'MultiCropPreprocessor',
    'Needs',
    'PreReLUStage',
    'SetupError',
    'Step',
    'TrainingPlan',
    'batchnorm_margin',
    'collect_pre_relu',
    'draw_permutation',
    'find_weights',
    'gather_rows',
    'input_statistics',
    'load_checkpoint',
    'map_weights',
    'mean_over_processes',
    'merge_needs',
    'pool_features',
    'pre_relu_sizes',
    'pre_relu_stages',
    'recognise',
    'reverse_gradient',
    'shuffle_rows',
    'sinkhorn',
    'trained_input',
    'training_progress',
    'unshuffle_rows',
]
