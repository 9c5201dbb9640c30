# ImageNet, BYOL's views: 2 x 224 px, blurred and solarised unlike.
_base_ = 'imagenet_mocov2_2x224.py'

crop, jitter, grey, blur, flip = _base_.view
crop = dict(crop, crop_ratio_range=(0.08, 1.0), interpolation='bicubic')
jitter = dict(
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
)
first_view = [crop, flip, jitter, grey, dict(blur, prob=1.0)]
second_view = [
    *first_view[:-1],
    dict(blur, prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
]
del crop, jitter, grey, blur, flip  # no settings of a run
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(
        type='MultiView',
        num_views=[1, 1],
        transforms=[first_view, second_view],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
