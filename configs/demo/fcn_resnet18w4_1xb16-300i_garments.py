"""A small FCN on the multi-garment scenes, from a given backbone.

Ten classes of garments and the background, at stride 8 by dilations. Start
it from a pretrained student by ``model.backbone.init_cfg.checkpoint=FILE``,
or from random weights by ``model.backbone.init_cfg=None``. The stem and the
first stage stay as they were given in both cases. Background, three quarters
of the pixels, counts a tenth in the loss: unweighted, 300 iterations end with
background everywhere.

    python tools/train.py THIS_FILE --cfg-options \
        model.backbone.init_cfg.checkpoint=student.pth
"""

default_scope = 'mmseg'
custom_imports = dict(imports=['mmssd'], allow_failed_imports=False)
data_root = 'data/garments/multi/'
size = (128, 128)
classes = (
    'background',
    't-shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
)
max_iters = 300
class_weight = [0.1] + [1.0] * (len(classes) - 1)

head = dict(
    type='FCNHead',
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=len(classes),
    norm_cfg=dict(type='BN'),
    align_corners=False,
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=size,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=4,
        base_channels=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        frozen_stages=1,
        norm_eval=False,
        init_cfg=dict(
            type='Pretrained', checkpoint='student.pth', prefix='backbone.'
        ),
    ),
    decode_head=dict(
        in_channels=32,
        in_index=3,
        channels=64,
        num_convs=2,
        loss_decode=dict(
            type='CrossEntropyLoss', loss_weight=1.0, class_weight=class_weight
        ),
        **head,
    ),
    auxiliary_head=dict(
        in_channels=16,
        in_index=2,
        channels=32,
        num_convs=1,
        loss_decode=dict(
            type='CrossEntropyLoss', loss_weight=0.4, class_weight=class_weight
        ),
        **head,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    img_suffix='.png',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(
            img_path='train/images', seg_map_path='train/semantic'
        ),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='val/images', seg_map_path='val/semantic'),
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator

train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=8e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        T_max=max_iters - 50,
    ),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=25),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [dict(type='mmpretrain.HealthHook')]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
log_processor = dict(type='LogProcessor', by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
