# ImageNet, one view of MoCo-v1's distribution: SEED with a MoCo-v1 or (its
# code has no blur there) a SimCLR teacher.
_base_ = 'imagenet_mocov2_2x224.py'

crop, _, grey, _, flip = _base_.view
jitter = dict(
    type='ColorJitter',
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.4,
)
view = [crop, grey, jitter, flip]
del crop, jitter, grey, flip, _  # no settings of a run
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='MultiView', num_views=1, transforms=[view]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
