# ImageNet, SwAV's views: 2 x 224 px and 6 x 96 px. (SwAV's code normalises
# red by 0.228; this, as all evaluations here, by 0.229.)
data_root = 'data/imagenet'
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
photometric = [
    dict(
        type='RandomApply',
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2,
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
    # magnitude_std='inf' makes the radius uniform in the range
    dict(
        type='GaussianBlur',
        magnitude_range=(0.1, 2.0),
        magnitude_std='inf',
        prob=0.5,
    ),
    dict(type='RandomFlip', prob=0.5),
]
global_view = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.14, 1.0),
        backend='pillow',
    ),
    *photometric,
]
small_view = [
    dict(
        type='RandomResizedCrop',
        scale=96,
        crop_ratio_range=(0.05, 0.14),
        backend='pillow',
    ),
    *photometric,
]
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(
        type='MultiView',
        num_views=[2, 6],
        transforms=[global_view, small_view],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
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
