# SwAV on a ResNet-18.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    neck=dict(
        type='DropoutProjectionNeck',
        in_channels=512,
        hid_channels=2048,
        out_channels=128,
    ),
    heads=dict(
        clustering=dict(
            type='OnlineClusteringHead',
            num_prototypes=3000,
            temperature=0.1,
            epsilon=0.05,
            iterations=3,
            codes_from='student',
            train=('student',),
            queue_length=3840,
            queue_start=dict(epochs=15),
            # 5004 iterations of ImageNet at 256 by drop_last; SwAV has 5005
            freeze_prototypes=dict(epochs=1),
        )
    ),
)
