# DTD: trained on `trainval`, tested on `test`.
_base_ = 'classification_224.py'

num_classes = 47
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='DTD',
        data_root='data/dtd',
        split='trainval',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='DTD',
        data_root='data/dtd',
        split='test',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
