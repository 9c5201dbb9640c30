"""SEED, EfficientNet-B0, main table: linear top-1 61.3 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='EfficientNet', arch='b0'),
    neck=dict(in_channels=1280, hid_channels=1280),
)
