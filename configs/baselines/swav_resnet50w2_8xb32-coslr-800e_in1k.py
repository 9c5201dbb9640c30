"""SwAV on ResNet-50 of double width: pretrains a teacher of DisCo.

The released teacher used batch 4096; this is the batch-256 recipe.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../oss/swav_resnet50_8xb32-coslr-800e_in1k.py'

model = dict(
    backbone=dict(stem_channels=128, base_channels=128),
    neck=dict(in_channels=4096, hid_channels=8192),
)
