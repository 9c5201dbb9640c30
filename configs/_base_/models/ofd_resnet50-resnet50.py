# Visual Priors, phase 2: teacher and student both start from phase 1.
phase_1 = (
    'work_dirs/moco-margin_resnet50_8xb32-steplr-800e_vipriors/epoch_800.pth'
)
model = dict(
    type='DistillClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        init_cfg=dict(
            type='Pretrained', checkpoint=phase_1, prefix='backbone.'
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
    teacher=dict(
        type='Teacher',
        backbone=dict(type='ResNet', depth=50),
        checkpoint=phase_1,
    ),
    distill_heads=dict(
        overhaul=dict(
            type='OverhaulHead',
            student_channels=(256, 512, 1024, 2048),
            teacher_channels=(256, 512, 1024, 2048),
            weight=1e-4,
            start=dict(epochs=4),  # from the fifth on
        )
    ),
)
