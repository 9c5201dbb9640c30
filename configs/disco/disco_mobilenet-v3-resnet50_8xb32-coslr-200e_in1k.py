"""DisCo, Table 1: linear top-1 64.4 in the paper.

The backbone ends at 960 channels; the published one has another layer, to
1280, after its pooling.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV3', arch='large'),
    neck=dict(in_channels=960),
)
