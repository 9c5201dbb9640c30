# MoCo-v2 at batch 256: SGD 0.03, a cosine that steps once an epoch.
# A leaf sets `train_cfg.max_epochs` and the scheduler's `end` and `T_max`.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=200,
        T_max=200,
    )
]
auto_scale_lr = dict(base_batch_size=256)
