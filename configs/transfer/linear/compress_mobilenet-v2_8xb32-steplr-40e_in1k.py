"""Linear probe of CompRess, on a MobileNetV2.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/mobilenet-v2.py',
    '../../_base_/transfer/models/linear.py',
    '../../_base_/transfer/datasets/imagenet.py',
    '../../_base_/transfer/schedules/linear_compress.py',
    '../../_base_/transfer/runtime_linear.py',
]

model = dict(
    backbone=_base_.student,
    neck=dict(
        _delete_=True,  # it pools the features itself
        type='FeatureNormNeck',
        num_features=_base_.channels[3],
    ),
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='FeatureStatisticsHook',
        dataset=dict(
            _base_.train_dataloader.dataset, pipeline=_base_.test_pipeline
        ),
        num_workers=8,
    ),
]
