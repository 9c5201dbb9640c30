# SwAV on a ResNet-18.
model = dict(
    type='Distiller',
    backbone=dict(type='ResNet', depth=18),
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
            queue_start=75_075,  # 15 epochs of 5005 iterations
            freeze_prototypes=5005,  # one epoch
        )
    ),
)
