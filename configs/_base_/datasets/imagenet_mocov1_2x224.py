# ImageNet, MoCo-v1's views: 2 x 224 px of one distribution, without blur.
_base_ = 'imagenet_mocov1_1x224.py'

train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=2, transforms=[_base_.view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
