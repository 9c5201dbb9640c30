# The linear probe of DisCo's code on CIFAR: the rate does not fall.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=3.0, momentum=0.9, weight_decay=0),
)
param_scheduler = []
auto_scale_lr = dict(base_batch_size=256)
