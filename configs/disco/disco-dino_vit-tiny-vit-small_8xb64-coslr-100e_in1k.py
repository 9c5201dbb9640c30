"""DisCo with DINO, Table 6: linear top-1 68.4 in the paper.

Takes `work_dirs/dino_vit-small_8xb64-coslr-100e_in1k/epoch_100.pth`;
the averaged network of that run teaches. The paper gives no details: DINO's
own recipe, the 256-d bottlenecks of both global crops, DisCo's weight.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../baselines/dino_vit-tiny_8xb64-coslr-100e_in1k.py'

teacher_run = 'work_dirs/dino_vit-small_8xb64-coslr-100e_in1k'
model = dict(
    teacher=dict(
        type='Teacher',
        backbone=dict(
            type='VisionTransformer',
            arch='deit-small',
            img_size=224,
            patch_size=16,
            out_type='cls_token',
        ),
        neck=dict(
            type='MLPNeck',
            in_channels=384,
            hid_channels=2048,
            out_channels=256,
        ),
        checkpoint=teacher_run + '/epoch_100.pth',
        prefix='momentum.',
    ),
    heads=dict(embedding=dict(type='EmbeddingHead', weight=32.0)),
)
