"""Faster R-CNN without a pyramid on VOC07, from a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth \
    model.roi_head.shared_head.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/models/faster-rcnn_c4_resnet50.py',
    '../../_base_/transfer/datasets/voc07.py',
    '../../_base_/transfer/schedules/voc_1x.py',
    '../../_base_/transfer/runtime_det.py',
]
