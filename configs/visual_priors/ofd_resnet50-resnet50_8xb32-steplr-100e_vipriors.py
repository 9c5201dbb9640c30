"""Phase 1 and 2, Table 1: val top-1 44.6 in the paper.

Takes `work_dirs/moco-margin_resnet50_8xb32-steplr-800e_vipriors/epoch_800.pth`
for teacher and student. The teacher is in evaluation mode; the published code
leaves it in training mode. That code also counts epochs from one, so its
learning rate drops an epoch earlier.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/vipriors_224.py',
    '../_base_/models/ofd_resnet50-resnet50.py',
    '../_base_/schedules/sgd_steplr_100e.py',
]

sync_bn = None  # as published
