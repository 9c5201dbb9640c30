"""MoCo-v2 on ResNet-50 in 800 epochs: a teacher of CompRess and SEED.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet50_8xb32-coslr-200e_in1k.py'

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
