# MoCo v2, ResNet-101, 200 epochs, by the code of MoCo, whose authors publish
# ResNet-50 alone; name your file so, or set model.teacher.checkpoint.
#
# A leaf takes it by
#     model = dict(teacher=_base_.moco_v2_resnet101_200e)
moco_v2_resnet101_200e = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=101),
    neck=dict(
        type='MoCoV2Neck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
    ),
    checkpoint='checkpoints/moco_v2_r101_200ep_pretrain.pth.tar',
    layout='moco',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
