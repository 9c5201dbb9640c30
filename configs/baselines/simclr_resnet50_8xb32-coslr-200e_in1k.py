"""SimCLR on ResNet-50: pretrains a teacher of SEED.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'simclr_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=2048, hid_channels=2048),
)
