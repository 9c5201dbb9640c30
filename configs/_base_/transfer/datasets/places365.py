# Places365 in folders by class.
_base_ = 'classification_224.py'

num_classes = 365
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root='data/places365',
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
        data_root='data/places365',
        data_prefix='val',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
