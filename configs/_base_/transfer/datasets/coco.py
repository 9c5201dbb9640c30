# COCO 2017, boxes and masks.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'
