"""Phase 2 on train and val, Table 3: test top-1 47.2 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/vipriors-trainval_224.py',
    '../_base_/models/ofd_resnet50-resnet50.py',
    '../_base_/schedules/sgd_steplr_100e.py',
]

sync_bn = None  # as published
