# ImageNet, DINO's views: 2 x 224 px, each with an augmentation of its own,
# and 8 x 96 px.
data_root = 'data/imagenet'
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
colour = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1,
            )
        ],
        prob=0.8,
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),  # BGR
    ),
]
global_crop = dict(
    type='RandomResizedCrop',
    scale=224,
    crop_ratio_range=(0.4, 1.0),
    interpolation='bicubic',
    backend='pillow',
)
small_crop = dict(
    type='RandomResizedCrop',
    scale=96,
    crop_ratio_range=(0.05, 0.4),
    interpolation='bicubic',
    backend='pillow',
)
# magnitude_std='inf' makes the radius uniform in the range
blur = dict(
    type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf'
)
first_view = [global_crop, *colour, dict(blur, prob=1.0)]
second_view = [
    global_crop,
    *colour,
    dict(blur, prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
]
small_view = [small_crop, *colour, dict(blur, prob=0.5)]
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(
        type='MultiView',
        num_views=[1, 1, 8],
        transforms=[first_view, second_view, small_view],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageNet',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
data_preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=mean,
    std=std,
    to_rgb=True,
    non_blocking=True,
)
