# DINO, ViT-S/16, 800 epochs, as DINO publishes the whole training: the
# bottleneck of its head. Smaller crops are resized to 224 pixels.
#
# A leaf takes it by
#     model = dict(teacher=_base_.dino_vit_small_p16_800e)
dino_vit_small_p16_800e = dict(
    type='Teacher',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='cls_token',
    ),
    neck=dict(
        type='DINOProjectionNeck',
        in_channels=384,
        hid_channels=2048,
        out_channels=256,
    ),
    checkpoint='checkpoints/dino_deitsmall16_pretrain_full_checkpoint.pth',
    layout='dino',
    input_size=224,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
