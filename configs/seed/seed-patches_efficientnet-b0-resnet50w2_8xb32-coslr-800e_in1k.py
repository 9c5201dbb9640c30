"""SEED, EfficientNet-B0, double-width SwAV teacher, small patches: 67.6.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed-patches_resnet18-resnet50w2_8xb32-coslr-800e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='EfficientNet', arch='b0'),
    neck=dict(in_channels=1280, hid_channels=1280),
)
