"""VOC07+12 as in DisCo's paper, from a ResNet-50.

bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth \
    model.roi_head.shared_head.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/models/faster-rcnn_c4_resnet50.py',
    '../../_base_/transfer/datasets/voc0712_disco.py',
    '../../_base_/transfer/schedules/disco_voc_48ki.py',
    '../../_base_/transfer/runtime_det_disco.py',
]
