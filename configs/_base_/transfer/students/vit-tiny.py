# ViT-tiny/16, which gives the class token of the last block, normalised.
student = dict(
    type='mmpretrain.VisionTransformer',
    arch='deit-tiny',
    img_size=224,
    patch_size=16,
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [192, 192, 192, 192]
# of an FCN: the patches after every third block, the last ones normalised;
# position embeddings are interpolated to the image
maps = dict(out_type='featmap', out_indices=(2, 5, 8, 11))
stride = 16
