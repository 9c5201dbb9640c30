"""MoCo-v2 on MobileNetV3-Large: linear top-1 36.2 in the paper of DisCo.

The backbone ends at 960 channels; the published one has another layer, to
1280, after its pooling.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV3', arch='large'),
    neck=dict(in_channels=960, hid_channels=1280),
)
