"""Training hooks."""

from .checkpoint_hook import AtomicCheckpointHook
from .completed_run_hook import CompletedRunHook
from .deferred_scalars_hook import DeferredScalarsHook
from .frozen_backbone_hook import (
    FeatureStatisticsHook,
    FrozenBackboneHook,
)
from .health_hook import HealthHook
from .information_plane_hook import InformationPlaneHook
from .knn_probe_hook import KNNProbeHook
from .precise_batch_norm_hook import PreciseBatchNormHook
from .resident_images_hook import ResidentImagesHook
from .transfer_hook import TransferHook

__all__ = [
    'AtomicCheckpointHook',
    'CompletedRunHook',
    'DeferredScalarsHook',
    'FeatureStatisticsHook',
    'FrozenBackboneHook',
    'HealthHook',
    'InformationPlaneHook',
    'KNNProbeHook',
    'ResidentImagesHook',
    'PreciseBatchNormHook',
    'TransferHook',
]
