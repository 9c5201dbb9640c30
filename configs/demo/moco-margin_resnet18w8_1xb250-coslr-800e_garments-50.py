"""Visual Priors in miniature, phase 1: MoCo-v2 with a margin, no labels.

Of the same 500 images, 800 epochs of two iterations.

    python tools/train.py THIS_FILE --amp
"""

_base_ = [
    '../_base_/demo_runtime.py',
    '../_base_/datasets/garments_single.py',
    '../_base_/schedules/demo_adamw_coslr_300i.py',
]

max_iters = 1600
warmup = 100
model = dict(
    type='Distiller',
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        zero_init_residual=False,
    ),
    neck=dict(
        type='MoCoV2Neck', in_channels=64, hid_channels=64, out_channels=64
    ),
    # of 0.999 an average over most of so short a run would be left
    momentum=dict(decay=0.99),
    heads=dict(
        contrast=dict(
            type='MomentumContrastHead',
            embed_dim=64,
            queue_length=256,
            temperature=0.2,
            margin=0.4,
        ),
    ),
    channels_last=True,
)
train_dataloader = dict(batch_size=250, dataset=dict(per_class=50))
data_preprocessor = dict(
    views=[
        dict(
            num=2,
            size=32,
            scale=(0.3, 1.0),
            jitter=(0.4, 0.4, 0.4, 0.1),
            jitter_prob=0.8,
            grey_prob=0.2,
            blur_prob=0.0,
        )
    ]
)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
train_cfg = dict(max_iters=max_iters, val_interval=10**9)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=False,
        begin=0,
        end=warmup,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0,
        by_epoch=False,
        begin=warmup,
        end=max_iters,
        T_max=max_iters - warmup,
    ),
]
# the same images, with their labels
bank = {**_base_.bank, 'subset': None, 'per_class': 50}
custom_hooks = [
    dict(type='HealthHook'),
    dict(
        type='KNNProbeHook',
        bank=bank,
        query={{_base_.query}},
        interval=400,
        by_epoch=False,
        at_start=True,
        keep_images=True,
    ),
]
