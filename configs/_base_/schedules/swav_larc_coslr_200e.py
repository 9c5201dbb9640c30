# SwAV at batch 256: LARC, 0.6 down to 0.0006 by a cosine per iteration.
# A leaf sets `train_cfg.max_epochs` and the scheduler's `end` and `T_max`.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='LARC', lr=0.6, momentum=0.9, weight_decay=1e-6),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        by_epoch=True,
        begin=0,
        end=200,
        T_max=200,
        convert_to_iter_based=True,
    )
]
auto_scale_lr = dict(base_batch_size=256)
