# ImageNet, one view of MoCo-v2's distribution (SEED with a MoCo-v2 teacher).
_base_ = 'imagenet_mocov2_2x224.py'

train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=1, transforms=[{{_base_.view}}]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
