"""Cluster classification (CC), OSS Table 1: linear top-1 60.8 in the paper.

Clusters of the unit features of a SwAV ResNet-50 as labels, from
`data/imagenet/meta/swav-resnet50_k2000`, which is written by
`tools/dataset_converters/pseudo_labels.py --clusters 2000`. The classifier is
dropped afterwards; the number of clusters is that of the code.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/datasets/imagenet_supervised_1x224.py',
    '../_base_/default_runtime.py',
]

num_clusters = 2000
model = dict(
    type='ImageClassifier',
    # batch norms start at 1, as torchvision's
    backbone=dict(type='ResNet', depth=18, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=num_clusters,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
data_preprocessor = dict(
    _delete_=True,
    num_classes=num_clusters,
    mean={{_base_.mean}},
    std={{_base_.std}},
    to_rgb=True,
)
root = {{_base_.data_root}}
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=root,
        data_prefix='train',
        ann_file='meta/swav-resnet50_k2000/train.txt',
        pipeline=[
            dict(type='LoadImage', max_broken=10),
            *_base_.view,
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root=root,
        data_prefix='val',
        ann_file='meta/swav-resnet50_k2000/val.txt',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackInputs'),
        ],
    ),
)
val_evaluator = dict(type='Accuracy', topk=1)
val_cfg = dict()

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90, val_interval=10)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MergedConstructor',
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 80], gamma=0.1)
]
auto_scale_lr = dict(base_batch_size=256)
# batch norm by process
sync_bn = None
