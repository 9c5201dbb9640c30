"""MoCo-v2 on MobileNetV2.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV2'),
    neck=dict(in_channels=1280, hid_channels=1280),
)
