"""MoCo-v2 on ResNet-18 in 800 epochs: 1 % 25.2, 10 % 54.1 in OSS Table 2.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=800)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=800,
        T_max=800,
    )
]
