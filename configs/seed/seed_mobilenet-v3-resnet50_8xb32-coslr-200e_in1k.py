"""SEED, MobileNetV3-Large, main table: linear top-1 55.2 in the paper.

The backbone ends at 960 channels; the published one at 1280.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV3', arch='large'),
    neck=dict(in_channels=960, hid_channels=960),
)
