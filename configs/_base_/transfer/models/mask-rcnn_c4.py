# Mask R-CNN on the third stage of a ResNet-18 or -34. The weights are of
# RGB images with ImageNet's statistics; everything is trained; the last stage
# sits in the head, takes the same file, and a new batch norm follows it.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(checkpoint='student.pth', prefix='backbone.'),
    ),
    rpn_head=dict(in_channels=256, feat_channels=256),
    roi_head=dict(
        shared_head=dict(
            type='ResLayerExtraNorm',
            depth=18,
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=False,
            style='pytorch',
            init_cfg=dict(
                type='Pretrained', checkpoint='student.pth', prefix='backbone.'
            ),
        ),
        bbox_roi_extractor=dict(out_channels=256),
        bbox_head=dict(in_channels=512),
        mask_head=dict(in_channels=512),
    ),
)
