# Mask R-CNN with a pyramid; a leaf sets backbone and neck.in_channels.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'
