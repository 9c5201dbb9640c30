# MoCo-v1 at batch 256: SGD 0.03, a tenth at 120 and at 160 of 200 epochs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[120, 160], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=256)
