# 273 and 90 photos of kangaroos and raccoons with boxes, of
# tools/dataset_converters/small_sets.py.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

data_root = 'data/small/kangaroo-raccoon/'
classes = ('kangaroo', 'raccoon')
scale = (512, 384)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    *_base_.test_pipeline[2:],
]
images = dict(
    data_root=data_root,
    metainfo=dict(classes=classes),
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=8,
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/trainval.json',
        pipeline=train_pipeline,
        **images,
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        ann_file='annotations/test.json', pipeline=test_pipeline, **images
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/test.json')
test_evaluator = val_evaluator
