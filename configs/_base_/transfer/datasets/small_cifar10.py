# CIFAR-10 in folders by class, of tools/dataset_converters/small_sets.py,
# enlarged to 128 px; for features that are cached.
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
eval_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=128, backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
images = dict(
    type='CustomDataset',
    data_root='data/small/cifar10',
    pipeline=eval_pipeline,
)
bank = dict(data_prefix='train', **images)
query = dict(data_prefix='test', **images)
