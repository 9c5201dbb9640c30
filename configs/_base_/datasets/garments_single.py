# Garment scenes of one garment, 32 px, RGB; views are made on the device.
data_root = 'data/garments'
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

train_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    drop_last=True,
    dataset=dict(
        type='GarmentScenes',
        split='train',
        data_root=data_root,
        pipeline=[dict(type='PackImage')],
    ),
)
photometric = dict(
    jitter=(0.2, 0.2, 0.2, 0.1),
    jitter_prob=0.8,
    grey_prob=0.2,
    blur_prob=0.0,
)
data_preprocessor = dict(
    type='MultiCropPreprocessor',
    mean=mean,
    std=std,
    views=[
        dict(num=2, size=32, scale=(0.6, 1.0), **photometric),
        dict(num=2, size=20, scale=(0.4, 0.8), **photometric),
    ],
)
# the labelled sets of the k-NN probe
eval_pipeline = [dict(type='PackInputs')]
bank = dict(
    type='GarmentScenes',
    split='train',
    data_root=data_root,
    subset=0.2,
    pipeline=eval_pipeline,
)
query = dict(
    type='GarmentScenes',
    split='val',
    data_root=data_root,
    subset=0.4,
    pipeline=eval_pipeline,
)
