"""Labels alone, from random weights, Table 1: val top-1 27.9 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/vipriors_224.py',
    '../_base_/models/classifier_resnet50.py',
    '../_base_/schedules/sgd_steplr_100e.py',
]

sync_bn = None  # as published
