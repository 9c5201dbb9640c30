# 1000 iterations of AdamW, cosine after 100 iterations of warm-up.
max_iters = 1000
warmup = 100
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=200
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
)
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
