# ImageNet's train and val images as they are evaluated: the labelled sets of
# the analysis tools.
eval_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
bank = dict(
    type='ImageNet',
    data_root='data/imagenet',
    split='train',
    pipeline=eval_pipeline,
)
query = dict(
    type='ImageNet',
    data_root='data/imagenet',
    split='val',
    pipeline=eval_pipeline,
)
