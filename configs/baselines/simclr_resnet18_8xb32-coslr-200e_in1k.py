"""SimCLR on ResNet-18.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/simclr_resnet18.py',
    '../_base_/datasets/imagenet_simclr_2x224.py',
    '../_base_/schedules/simclr_lars_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
