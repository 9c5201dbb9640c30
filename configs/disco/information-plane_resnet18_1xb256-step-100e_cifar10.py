"""Information plane of DisCo, section 3.3 and Figure 6: a CIFAR-10 probe.

A linear probe of the frozen student, measured on 1000 training images after
each iteration of its first epoch. A run for each student to compare, with
its file by `--cfg-options load_from=work_dirs/RUN/epoch_200.pth`:

    python tools/train.py THIS_FILE --work-dir work_dirs/plane_2048
    python tools/analysis/information_plane.py work_dirs/plane_*

The probe is that of the paper: rate 3, a tenth at epochs 60 and 80, images
enlarged to 224 px; its code keeps the rate, and crops and flips the images.
Its estimator counts some equal outputs as different, this one does not.
"""

_base_ = ['../_base_/default_runtime.py']

enlarge = dict(
    type='Resize', scale=224, interpolation='bicubic', backend='pillow'
)
data_root = 'data/cifar10'
pipeline = [enlarge, dict(type='PackInputs')]
train_set = dict(
    type='CIFAR10', data_root=data_root, split='train', pipeline=pipeline
)
test_set = dict(
    type='CIFAR10', data_root=data_root, split='test', pipeline=pipeline
)
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=train_set,
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=test_set,
)
val_evaluator = dict(type='Accuracy', topk=(1,))
val_cfg = dict()
data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=False,  # they are
)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, frozen_stages=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
)
# the student, to be trained before; HealthHook refuses a file without it
load_from = (
    'work_dirs/disco_resnet18-resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=10)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=3.0, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[60, 80], gamma=0.1)
]
custom_hooks = [
    dict(type='HealthHook'),
    dict(type='InformationPlaneHook', images=train_set),
]
