# ImageNet, one view by crop and flip alone: CompRess and what is compared
# with it.
_base_ = 'imagenet_mocov2_2x224.py'

view = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.08, 1.0),
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5),
]
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=1, transforms=[view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
