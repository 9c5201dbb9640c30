# SwAV, ResNet-50, 800 epochs, as published. Normalises
# red by 0.228, that is 58.14.
#
# A leaf takes it by
#     model = dict(teacher=_base_.swav_resnet50_800e)
swav_resnet50_800e = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='DropoutProjectionNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
    ),
    checkpoint='checkpoints/swav_800ep_pretrain.pth.tar',
    layout='swav',
    mean=[123.675, 116.28, 103.53],
    std=[58.14, 57.12, 57.375],
    channel_order='RGB',
)
