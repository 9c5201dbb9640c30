# CompRess's linear probe.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = dict(
    type='MultiStepLR', by_epoch=True, milestones=[15, 30], gamma=0.1
)
auto_scale_lr = dict(base_batch_size=256)
