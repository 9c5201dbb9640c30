"""SwAV on ResNet-34.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../oss/swav_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    backbone=dict(depth=34),
)
