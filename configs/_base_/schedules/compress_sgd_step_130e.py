# CompRess at batch 256: SGD 0.01, a fifth of it after 90 and 120 epochs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=130)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[90, 120], gamma=0.2)
]
auto_scale_lr = dict(base_batch_size=256)
