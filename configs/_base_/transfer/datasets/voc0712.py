# Trained on VOC07 and VOC12 trainval, tested on VOC07 test: AP50, AP75, mAP.
_base_ = 'mmdet::_base_/datasets/voc0712.py'

iou_thrs = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
val_evaluator = dict(iou_thrs=iou_thrs)
test_evaluator = dict(iou_thrs=iou_thrs)
