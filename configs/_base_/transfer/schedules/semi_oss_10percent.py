# SwAV's fine-tuning on 10 %, as in OSS: trunk 0.01, head 0.2.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0),
    paramwise_cfg=dict(custom_keys={'head.': dict(lr_mult=0.2 / 0.01)}),
)
param_scheduler = dict(
    type='MultiStepLR', by_epoch=True, milestones=[12, 16], gamma=0.2
)
auto_scale_lr = dict(base_batch_size=256)
