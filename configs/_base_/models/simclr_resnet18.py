# SimCLR on a ResNet-18.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        num_layers=2,
        # no biases, and batch norm after the last layer, too: as the
        # published code and mmpretrain
        with_bias=False,
        with_last_bn=True,
        with_last_bias=False,
        norm_cfg=dict(type='BN1d'),
    ),
    heads=dict(contrast=dict(type='InstanceContrastHead', temperature=0.1)),
)
