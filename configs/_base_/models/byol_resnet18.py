# BYOL on a ResNet-18.
model = dict(
    type='Distiller',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    neck=dict(
        type='NonLinearNeck',
        in_channels=512,
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=False,
        norm_cfg=dict(type='BN1d'),
    ),
    # a forward pass for each crop, as in the published code
    separate_views=True,
    momentum=dict(decay=0.99, final_decay=1.0),
    heads=dict(prediction=dict(type='PredictionHead')),
)
