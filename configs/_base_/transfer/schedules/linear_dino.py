# DINO's linear probe: lr 0.001 for a batch of 256, cosine per epoch, to 0.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0),
)
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=True, T_max=100, eta_min=0
)
auto_scale_lr = dict(base_batch_size=256)
