# MoCo v2, ResNet-50, 800 epochs, as MoCo publishes it.
#
# A leaf takes it by
#     model = dict(teacher=_base_.moco_v2_resnet50_800e)
moco_v2_resnet50_800e = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
    ),
    checkpoint='checkpoints/moco_v2_800ep_pretrain.pth.tar',
    layout='moco',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
