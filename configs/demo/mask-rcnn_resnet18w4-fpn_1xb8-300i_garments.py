"""A small Mask R-CNN on the multi-garment scenes, from a given backbone.

The Faster R-CNN beside it, with a head for masks; the stem and the first
stage stay as they were given.

    python tools/train.py THIS_FILE --cfg-options \
        model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = 'faster-rcnn_resnet18w4-fpn_1xb8-300i_garments.py'

channels = _base_.channels
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=1),
            out_channels=channels,
            featmap_strides=_base_.strides,
            finest_scale=24,
        ),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=2,
            in_channels=channels,
            conv_out_channels=channels // 2,
            num_classes=len(_base_.classes),
            norm_cfg=dict(type='BN'),
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
