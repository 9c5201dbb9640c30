# SUN397: trained on `train`, tested on `test`.
_base_ = 'classification_224.py'

num_classes = 397
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='SUN397',
        data_root='data/sun397',
        split='train',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SUN397',
        data_root='data/sun397',
        split='test',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
