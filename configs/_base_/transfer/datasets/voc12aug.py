# VOC12 with the additional masks (train_aug), tested on VOC12 val.
_base_ = 'mmseg::_base_/datasets/pascal_voc12_aug.py'

num_classes = 21
