"""BYOL on ResNet-18 in 800 epochs: 1 % 25.6, 10 % 52.3 in OSS Table 2.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'byol_resnet18_8xb32-accum16-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=800)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=800,
        T_max=790,
        convert_to_iter_based=True,
    ),
]
