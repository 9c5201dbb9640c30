"""Mask R-CNN on COCO-mini, from the demo's ResNet-18.

python tools/train.py THIS_FILE --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet18w4.py',
    '../../_base_/transfer/models/mask-rcnn_fpn.py',
    '../../_base_/transfer/datasets/small_coco-mini.py',
    '../../_base_/transfer/runtime_det_iters.py',
    '../../_base_/transfer/schedules/small_sgd_1ki.py',
]

model = dict(
    # the base's is of a ResNet-50
    backbone=dict(_delete_=True, **_base_.student),
    neck=dict(in_channels=_base_.channels),
)
default_hooks = dict(checkpoint=dict(interval=500))
