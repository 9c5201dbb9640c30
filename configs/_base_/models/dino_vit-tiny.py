# DINO on ViT-tiny/16.
model = dict(
    type='Distiller',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-tiny',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='cls_token',
    ),
    neck=dict(
        type='MLPNeck', in_channels=192, hid_channels=2048, out_channels=256
    ),
    momentum=dict(decay=0.996, final_decay=1.0),
    heads=dict(
        dino=dict(
            type='DINOHead',
            embed_dim=256,
            num_prototypes=65536,
            student_temperature=0.1,
            teacher_temperature=0.04,
            center_momentum=0.9,
            freeze_last_layer=dict(epochs=1),
        )
    ),
)
