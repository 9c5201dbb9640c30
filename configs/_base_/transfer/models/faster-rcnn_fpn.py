# Faster R-CNN with a pyramid; a leaf sets backbone and neck.in_channels.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
