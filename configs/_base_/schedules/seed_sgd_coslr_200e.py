# SEED at batch 256: SGD 0.03, SEED's own rule. A leaf of another length sets
# `train_cfg.max_epochs` and the scheduler's `T_max`. The usual warm-up is
# mmengine's LinearLR before CosineAnnealingLR.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.03, T_max=200, warmup=5)]
auto_scale_lr = dict(base_batch_size=256)
