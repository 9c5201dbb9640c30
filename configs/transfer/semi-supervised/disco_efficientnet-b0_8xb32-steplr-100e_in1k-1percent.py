"""DisCo: linear on 1 % of the labels, on a EfficientNet-B0.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/efficientnet-b0.py',
    '../../_base_/transfer/models/linear.py',
    '../../_base_/transfer/datasets/imagenet_1percent.py',
    '../../_base_/transfer/schedules/semi_disco.py',
    '../../_base_/transfer/runtime_linear.py',
]

model = dict(
    backbone=_base_.student,
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
