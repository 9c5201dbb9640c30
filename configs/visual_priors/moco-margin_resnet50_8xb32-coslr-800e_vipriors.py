"""Phase 1 with MoCo-v2's own cosine schedule.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'moco-margin_resnet50_8xb32-steplr-800e_vipriors.py'

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
