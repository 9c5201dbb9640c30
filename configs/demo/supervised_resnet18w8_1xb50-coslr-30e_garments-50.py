"""Visual Priors in miniature, Table 1: labels alone, from random weights.

Thirty epochs of 500 images, 50 of each class: as many as in the other rows.

    python tools/train.py THIS_FILE
"""

_base_ = [
    '../_base_/demo_runtime.py',
    '../_base_/datasets/garments_50.py',
    '../_base_/schedules/demo_adamw_coslr_300i.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        zero_init_residual=False,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
# accuracies at the iteration they belong to
default_hooks = dict(logger=dict(log_metric_by_epoch=False))
