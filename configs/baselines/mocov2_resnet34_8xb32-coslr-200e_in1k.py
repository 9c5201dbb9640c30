"""MoCo-v2 on ResNet-34: linear top-1 56.8 in the paper of DisCo.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(backbone=dict(depth=34))
