# Mask R-CNN on the third stage of a ResNet-50, whose blocks have four times
# the channels.
_base_ = 'mask-rcnn_c4.py'

model = dict(
    backbone=dict(depth=50),
    rpn_head=dict(in_channels=1024, feat_channels=1024),
    roi_head=dict(
        shared_head=dict(depth=50),
        bbox_roi_extractor=dict(out_channels=1024),
        bbox_head=dict(in_channels=2048),
        mask_head=dict(in_channels=2048),
    ),
)
