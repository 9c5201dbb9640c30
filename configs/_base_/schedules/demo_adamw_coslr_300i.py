# 300 iterations of AdamW, cosine after 30 iterations of warm-up. Of the rates
# 1.6e-2 and 3.2e-2 the one at which labels alone learn more.
max_iters = 300
warmup = 30
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=60
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.6e-2, weight_decay=0.05),
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
