# SEED: ResNet-18 student, frozen MoCo-v2 ResNet-50 teacher.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    # no batch norm, hidden width that of the backbone
    neck=dict(
        type='MoCoV2Neck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
    ),
    teacher=dict(
        type='Teacher',
        backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
        neck=dict(
            type='MoCoV2Neck',
            in_channels=2048,
            hid_channels=2048,
            out_channels=128,
        ),
    ),
    heads=dict(
        similarity=dict(
            type='SimilarityQueueHead',
            queue_length=65536,
            student_temperature=0.2,
            teacher_temperature=0.01,
        ),
    ),
)
