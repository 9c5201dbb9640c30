# KD while a classifier is fitted to a frozen backbone.
model = dict(
    type='DistillClassifier',
    freeze_backbone=True,
    backbone=dict(
        type='ResNet',
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='', prefix='backbone.'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
    teacher=dict(
        type='Teacher',
        backbone=dict(type='ResNet', depth=50),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
        checkpoint='work_dirs/kd-teacher_resnet50_8xb32-steplr-100e_in1k/'
        'epoch_100.pth',
    ),
    distill_heads=dict(kd=dict(type='LogitHead', alpha=0.5, temperature=2.0)),
)
