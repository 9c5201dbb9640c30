# ImageNet, one view as SEED's code makes it for a SwAV teacher: SwAV's crop,
# MoCo-v2's (weaker) colours.
_base_ = 'imagenet_mocov2_2x224.py'

crop, *photometric = _base_.view
big_view = [dict(crop, crop_ratio_range=(0.14, 1.0)), *photometric]
del crop  # no setting of a run
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=1, transforms=[big_view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
