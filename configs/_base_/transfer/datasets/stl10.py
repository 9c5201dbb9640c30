# STL-10, enlarged to 224 px.
_base_ = 'classification_224.py'

num_classes = 10
# the images are RGB already
data_preprocessor = dict(to_rgb=False)
train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        backend='pillow',
        interpolation='bicubic',
    ),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    dict(type='Resize', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='STL10',
        data_root='data/stl10',
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='STL10',
        data_root='data/stl10',
        split='test',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
