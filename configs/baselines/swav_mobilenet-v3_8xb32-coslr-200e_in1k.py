"""SwAV on MobileNetV3-Large.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../oss/swav_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV3', arch='large'),
    neck=dict(in_channels=960),
)
