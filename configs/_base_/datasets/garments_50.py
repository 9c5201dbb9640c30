# 50 single garment scenes of each class with their labels, 32 px, RGB; the
# same ones in every run. Tested on all val scenes.
data_root = 'data/garments'
data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=False,
)
train_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    drop_last=True,
    dataset=dict(
        type='GarmentScenes',
        split='train',
        data_root=data_root,
        per_class=50,
        pipeline=[
            dict(
                type='RandomResizedCrop', scale=32, crop_ratio_range=(0.6, 1.0)
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='GarmentScenes',
        split='val',
        data_root=data_root,
        pipeline=[dict(type='PackInputs')],
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = dict()
