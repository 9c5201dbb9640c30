"""OSS with another teacher, Figure 3.

Paper, probed at 200 / 400 of the 800 epochs: 61.0 / 63.1.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-800e_in1k.py'

model = dict(
    teacher=dict(
        backbone=dict(type='ResNet', depth=34),
        neck=dict(in_channels=512, hid_channels=2048),
    )
)
