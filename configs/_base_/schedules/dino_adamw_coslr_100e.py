# DINO at batch 512: AdamW, 0.0005 per 256 images after 10 epochs of warm-up,
# weight decay from 0.04 to 0.4 (none of biases and norms), the gradient of
# each parameter clipped by 3.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedConstructor',
    optimizer=dict(
        type='ClippedAdamW', lr=0.001, weight_decay=0.04, max_norm=3.0
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin=10,
        end=100,
        T_max=90,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingParamScheduler',
        param_name='weight_decay',
        # a ratio leaves those without decay alone
        eta_min_ratio=10.0,
        by_epoch=True,
        begin=0,
        end=100,
        T_max=100,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=512)
