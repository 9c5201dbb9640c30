# SimCLR, ResNet-50, 200 epochs, in the layout that SEED reads; name your
# file so, or set model.teacher.checkpoint.
#
# A leaf takes it by
#     model = dict(teacher=_base_.simclr_resnet50_200e)
simclr_resnet50_200e = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='DropoutProjectionNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
    ),
    checkpoint='checkpoints/simclr_r50_200ep_pretrain.pth.tar',
    layout='simclr',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
