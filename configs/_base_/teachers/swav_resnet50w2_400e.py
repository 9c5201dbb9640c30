# SwAV, ResNet-50 2 times as wide, 400 epochs, as published. Normalises
# red by 0.228, that is 58.14.
#
# A leaf takes it by
#     model = dict(teacher=_base_.swav_resnet50w2_400e)
swav_resnet50w2_400e = dict(
    type='Teacher',
    backbone=dict(
        type='ResNet',
        depth=50,
        stem_channels=128,
        base_channels=128,
    ),
    neck=dict(
        type='DropoutProjectionNeck',
        in_channels=4096,
        hid_channels=8192,
        out_channels=128,
    ),
    checkpoint='checkpoints/swav_RN50w2_400ep_pretrain.pth.tar',
    layout='swav',
    mean=[123.675, 116.28, 103.53],
    std=[58.14, 57.12, 57.375],
    channel_order='RGB',
)
