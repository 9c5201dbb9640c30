"""Information plane in miniature: a probe of a frozen student of the demo.

A linear probe on the labels of all single scenes for one epoch, measured on
1000 of them at every second iteration (DisCo, section 3.3).

    python tools/train.py THIS_FILE --cfg-options \
        model.backbone.init_cfg.checkpoint=student.pth
    python tools/analysis/information_plane.py work_dirs/RUN
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/garments_single.py',
]

model = dict(
    type='FrozenClassifier',
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=4,
        base_channels=4,
        init_cfg=dict(
            type='Pretrained', checkpoint='student.pth', prefix='backbone.'
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=32),
)
data_preprocessor = dict(
    _delete_=True,
    num_classes=10,
    mean={{_base_.mean}},
    std={{_base_.std}},
    to_rgb=False,  # they are
)
train_set = dict(
    type='GarmentScenes',
    split='train',
    data_root={{_base_.data_root}},
    pipeline={{_base_.eval_pipeline}},
)
train_dataloader = dict(
    batch_size=256,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline={{_base_.eval_pipeline}}),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
# slow enough to see the path: at 0.1 the outputs of almost all images differ
# after ten iterations
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0),
)
default_hooks = dict(logger=dict(interval=50))
custom_hooks = [
    dict(type='HealthHook'),
    dict(type='FrozenBackboneHook'),
    dict(type='TransferHook'),
    dict(type='InformationPlaneHook', images=train_set, interval=2),
]
