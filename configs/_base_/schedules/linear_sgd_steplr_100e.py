# A linear classifier at batch 256 by MoCo's recipe: SGD 30, a tenth at 60
# and 80 epochs, no weight decay.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=5)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[60, 80], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=256)
