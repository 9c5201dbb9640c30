"""BYOL on ResNet-18, gradients of 16 batches of 256 added up (BYOL-GA).

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/byol_resnet18.py',
    '../_base_/datasets/imagenet_byol_2x224.py',
    '../_base_/schedules/byol_lars_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
optim_wrapper = dict(accumulative_counts=16)
