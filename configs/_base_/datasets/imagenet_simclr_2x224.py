# ImageNet, SimCLR's views: 2 x 224 px of one distribution.
_base_ = 'imagenet_mocov2_2x224.py'

crop, jitter, grey, blur, flip = _base_.view
crop = dict(crop, crop_ratio_range=(0.08, 1.0))
jitter = dict(
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
)
simclr_view = [crop, flip, jitter, grey, blur]
del crop, jitter, grey, blur, flip  # no settings of a run
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=2, transforms=[simclr_view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
