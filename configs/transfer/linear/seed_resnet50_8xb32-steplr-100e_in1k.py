"""Linear probe of SEED, on a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet50.py',
    '../../_base_/transfer/models/linear.py',
    '../../_base_/transfer/datasets/imagenet.py',
    '../../_base_/transfer/schedules/linear_seed.py',
    '../../_base_/transfer/runtime_linear.py',
]

model = dict(
    backbone=_base_.student,
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
