# Tiny-ImageNet, by lists of tools/dataset_converters/image_lists.py.
_base_ = 'classification_224.py'

num_classes = 200
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/tiny-imagenet-200',
        ann_file='meta/train.txt',
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
        data_root='data/tiny-imagenet-200',
        ann_file='meta/val.txt',
        data_prefix='val/images',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
