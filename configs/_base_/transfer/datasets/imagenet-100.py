# 100 classes of ImageNet, by lists of tools/dataset_converters/
# image_lists.py.
_base_ = 'classification_224.py'

num_classes = 100
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/imagenet',
        ann_file='meta/train_100classes.txt',
        data_prefix='train',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root='data/imagenet',
        ann_file='meta/val_100classes.txt',
        data_prefix='val',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
