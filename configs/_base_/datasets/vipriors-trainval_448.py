# As vipriors-trainval_224.py, at 448 px.
_base_ = 'vipriors-trainval_224.py'

data_root = 'data/vipriors'
train_pipeline = [
    dict(type='LoadImage', max_broken=10),
    dict(type='RandomResizedCrop', scale=448, backend='pillow'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeEdge', scale=512, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=448),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='ImageNet',
                data_root=data_root,
                split=split,
                pipeline=train_pipeline,
            )
            for split in ('train', 'val')
        ]
    )
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
