# BYOL at batch 4096: LARS 4.8, ten epochs of warm-up, cosine.
# A leaf sets `train_cfg.max_epochs` and the cosine's `end` and `T_max`.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
spared = dict(decay_mult=0.0, lars_exclude=True)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedConstructor',
    optimizer=dict(
        type='ForeachLARS', lr=4.8, momentum=0.9, weight_decay=1e-6
    ),
    paramwise_cfg=dict(
        custom_keys={
            'bn': spared,
            'bias': spared,
            'downsample.1': spared,  # norms of a ResNet's shortcuts
            'predictor.1': spared,  # and of BYOL's predictor
        }
    ),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=10,
        end=200,
        T_max=190,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=4096)
