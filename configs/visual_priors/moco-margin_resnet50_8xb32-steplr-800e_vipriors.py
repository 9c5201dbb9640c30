"""Phase 1: MoCo-v2 with a margin of 0.4 and 4096 negatives, Table 2.

Linear top-1 34.6 in the paper (`linear_*`); the weights for phase 2.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/mocov2_resnet18.py',
    '../_base_/datasets/vipriors_mocov2_2x224.py',
    '../_base_/schedules/sgd_steplr_800e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=2048, hid_channels=2048),
    heads=dict(contrast=dict(queue_length=4096, margin=0.4)),
    data_preprocessor=_base_.data_preprocessor,
)
# batch norm by process, keys of shuffled images
sync_bn = None
