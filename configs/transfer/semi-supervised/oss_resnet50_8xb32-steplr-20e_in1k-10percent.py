"""OSS: fine-tuned on 10 % of the labels, on a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet50.py',
    '../../_base_/transfer/models/fine-tune.py',
    '../../_base_/transfer/datasets/imagenet_10percent.py',
    '../../_base_/transfer/schedules/semi_oss_10percent.py',
    '../../_base_/transfer/runtime_fine-tune.py',
]

model = dict(
    backbone=_base_.student,
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
