"""Faster R-CNN with a pyramid on VOC07, from a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet50.py',
    '../../_base_/transfer/models/faster-rcnn_fpn.py',
    '../../_base_/transfer/datasets/voc07.py',
    '../../_base_/transfer/schedules/voc_1x.py',
    '../../_base_/transfer/runtime_det.py',
]

model = dict(
    # the base's is frozen in part
    backbone=dict(_delete_=True, **_base_.student),
    neck=dict(in_channels=_base_.channels),
)
