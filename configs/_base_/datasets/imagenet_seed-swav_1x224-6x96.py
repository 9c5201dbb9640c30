# ImageNet, one big view and six small patches of SEED's multi-crop variant.
_base_ = 'imagenet_seed-swav_1x224.py'

small_view = [
    dict(
        type='RandomResizedCrop',
        scale=96,
        crop_ratio_range=(0.05, 0.14),
        backend='pillow',
    ),
    *_base_.photometric,
]
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(
        type='MultiView',
        num_views=[1, 6],
        transforms=[{{_base_.big_view}}, small_view],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
