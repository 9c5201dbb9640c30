"""Mask R-CNN without a pyramid on COCO, from a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth \
    model.roi_head.shared_head.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/models/mask-rcnn_c4_resnet50.py',
    '../../_base_/transfer/datasets/coco.py',
    '../../_base_/transfer/schedules/coco_1x.py',
    '../../_base_/transfer/runtime_det.py',
]
