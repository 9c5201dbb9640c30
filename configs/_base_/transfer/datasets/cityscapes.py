# Cityscapes, fine annotations.
_base_ = 'mmseg::_base_/datasets/cityscapes.py'

num_classes = 19
