# SimCLR, ResNet-50, 200 epochs, in the layout that SEED reads; name your
# file so, or set model.teacher.checkpoint.
#
# A leaf takes it by
#     model = dict(teacher=_base_.simclr_resnet50_200e)
# One of your own comes from baselines/simclr_resnet50_8xb32-coslr-200e_in1k,
# whose projector ends in a batch norm:
#     model = dict(
#         teacher=dict(
#             neck=dict(_delete_=True, type='NonLinearNeck',
#                       in_channels=2048, hid_channels=2048,
#                       out_channels=128, norm_cfg=dict(type='BN1d')),
#             checkpoint='work_dirs/simclr_resnet50_8xb32-coslr-200e_in1k/'
#             'epoch_200.pth',
#             layout='mmssd'))
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
