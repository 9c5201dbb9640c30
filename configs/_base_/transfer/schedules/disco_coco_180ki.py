# DisCo's paper: 180k iterations, lr 0.11. Batch 16 and the steps, which it
# does not state, are those of the usual schedule of that length.
max_iters = 180_000
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=60_000
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=200
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[120_000, 160_000],
        gamma=0.1,
    ),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.11, momentum=0.9, weight_decay=0.0001),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
