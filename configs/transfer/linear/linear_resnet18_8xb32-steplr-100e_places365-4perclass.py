"""Linear probe on Places365 by four images a class, on a ResNet-18.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet18.py',
    '../../_base_/transfer/models/linear.py',
    '../../_base_/transfer/datasets/places365_4perclass.py',
    '../../_base_/transfer/schedules/linear_disco_cifar.py',
    '../../_base_/transfer/runtime_linear.py',
]

model = dict(
    backbone=_base_.student,
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
