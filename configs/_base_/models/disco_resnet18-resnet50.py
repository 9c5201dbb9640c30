# DisCo: ResNet-18 student, frozen MoCo-v2 ResNet-50 teacher.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    # the widened bottleneck, the same for every student
    neck=dict(
        type='MoCoV2Neck',
        in_channels=512,
        hid_channels=2048,
        out_channels=128,
    ),
    # a forward pass for each crop, as in the published code
    separate_views=True,
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
    momentum=dict(decay=0.999),
    heads=dict(
        contrast=dict(
            type='MomentumContrastHead',
            queue_length=65536,
            temperature=0.2,
        ),
        # lambda = 1 of the paper, over squared errors that its code sums
        # over the 32 images of a process
        embedding=dict(type='EmbeddingHead', weight=32.0),
    ),
)
