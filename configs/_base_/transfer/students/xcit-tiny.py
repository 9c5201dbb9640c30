# XCiT-tiny-12/16, which gives the class token, normalised.
student = dict(
    type='mmpretrain.XCiT',
    patch_size=16,
    embed_dims=192,
    depth=12,
    num_heads=4,
    layer_scale_init_value=1.0,
    tokens_norm=True,
    drop_path_rate=0.1,
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [192, 192, 192, 192]
# of an FCN: the patches after every third block; the attention of the class
# token, two layers behind them, does not change them
maps = dict(out_type='featmap', out_indices=(2, 5, 8, 11))
stride = 16
