"""DINO on XCiT-tiny-12/16, Table 6 of DisCo: linear top-1 67.0 in its paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'dino_vit-tiny_8xb64-coslr-100e_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,  # another backbone class
        type='XCiT',
        patch_size=16,
        embed_dims=192,
        depth=12,
        num_heads=4,
        layer_scale_init_value=1.0,
        tokens_norm=True,
        drop_path_rate=0.1,
        out_type='cls_token',
        # mmpretrain's default has a deviation of 1
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
)
