"""Phase 1 of the ResNeXt-101 (32x4d) of Table 3.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'moco-margin_resnet50_8xb32-steplr-800e_vipriors.py'

model = dict(
    backbone=dict(type='ResNeXt', depth=101, groups=32, width_per_group=4)
)
