# MoCo-v2 on a ResNet-18.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
    ),
    momentum=dict(decay=0.999),
    heads=dict(
        contrast=dict(
            type='MomentumContrastHead',
            queue_length=65536,
            temperature=0.2,
        )
    ),
)
