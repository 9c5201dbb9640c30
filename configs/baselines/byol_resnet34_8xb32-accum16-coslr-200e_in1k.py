"""BYOL on ResNet-34.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'byol_resnet18_8xb32-accum16-coslr-200e_in1k.py'

model = dict(
    backbone=dict(depth=34),
)
