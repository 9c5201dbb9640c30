"""DisCo trained for longer, section 4.2: linear top-1 64 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_mobilenet-v3-resnet50w2_8xb32-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=340)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=340,
        T_max=340,
    )
]
