# Flowers102: trained on `trainval`, tested on `test`.
_base_ = 'classification_224.py'

num_classes = 102
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='Flowers102',
        data_root='data/flowers102',
        split='trainval',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='Flowers102',
        data_root='data/flowers102',
        split='test',
        pipeline=_base_.test_pipeline,
    ),
)
test_dataloader = val_dataloader
