# SwAV's fine-tuning on 1 %, as in OSS: trunk 0.02, head 5.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0),
    paramwise_cfg=dict(custom_keys={'head.': dict(lr_mult=5 / 0.02)}),
)
param_scheduler = dict(
    type='MultiStepLR', by_epoch=True, milestones=[12, 16], gamma=0.2
)
auto_scale_lr = dict(base_batch_size=256)
