"""MoCo-v2 on ResNet-152: pretrains a teacher of DisCo.

400 epochs, as the paper of DisCo says; the command of its code loads a
file of 800.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    backbone=dict(depth=152),
    neck=dict(in_channels=2048, hid_channels=2048),
)
train_cfg = dict(max_epochs=400)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=400,
        T_max=400,
    )
]
