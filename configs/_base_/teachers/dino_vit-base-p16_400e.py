# DINO, ViT-B/16, 400 epochs, as DINO publishes the whole training: the
# bottleneck of its head. Smaller crops are resized to 224 pixels.
#
# A leaf takes it by
#     model = dict(teacher=_base_.dino_vit_base_p16_400e)
dino_vit_base_p16_400e = dict(
    type='Teacher',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        out_type='cls_token',
    ),
    neck=dict(
        type='DINOProjectionNeck',
        in_channels=768,
        hid_channels=2048,
        out_channels=256,
    ),
    checkpoint='checkpoints/dino_vitbase16_pretrain_full_checkpoint.pth',
    layout='dino',
    input_size=224,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    channel_order='RGB',
)
