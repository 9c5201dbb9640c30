# The linear probe of DisCo's code; lr 3 for EfficientNets and MobileNets.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0),
)
param_scheduler = dict(
    type='MultiStepLR',
    by_epoch=True,
    milestones=[5, 10, 15, 20, 25, 30, 35, 40, 45, 60, 80],
    gamma=0.5,
)
auto_scale_lr = dict(base_batch_size=256)
