# MoCo v1, ResNet-50, 200 epochs, as MoCo publishes it: a linear projector.
#
# A leaf takes it by
#     model = dict(teacher=_base_.moco_v1_resnet50_200e)
# One of your own comes from baselines/mocov1_resnet50_8xb32-steplr-200e_in1k:
#     model = dict(
#         teacher=dict(
#             checkpoint='work_dirs/mocov1_resnet50_8xb32-steplr-200e_in1k/'
#             'epoch_200.pth',
#             layout='mmssd'))
moco_v1_resnet50_200e = dict(
    type='Teacher',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='LinearNeck',
        in_channels=2048,
        out_channels=128,
        gap_dim=2,
        norm_cfg=None,
    ),
    checkpoint='checkpoints/moco_v1_200ep_pretrain.pth.tar',
    layout='moco',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
