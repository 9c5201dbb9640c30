"""Mask R-CNN with a pyramid on COCO-10K, from a EfficientNet-B0.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/efficientnet-b0.py',
    '../../_base_/transfer/models/mask-rcnn_fpn.py',
    '../../_base_/transfer/datasets/coco-10k.py',
    '../../_base_/transfer/schedules/coco_1x.py',
    '../../_base_/transfer/runtime_det.py',
]

model = dict(
    # the base's is of a ResNet-50
    backbone=dict(_delete_=True, **_base_.student),
    neck=dict(in_channels=_base_.channels),
)
