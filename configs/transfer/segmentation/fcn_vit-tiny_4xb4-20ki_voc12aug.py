"""FCN on VOC12 with the additional masks, from a ViT-tiny.

bash tools/dist_train.sh THIS_FILE 4 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/vit-tiny.py',
    '../../_base_/transfer/models/fcn.py',
    '../../_base_/transfer/datasets/voc12aug.py',
    '../../_base_/transfer/schedules/adamw_20ki.py',
    '../../_base_/transfer/runtime_seg.py',
]

model = dict(
    data_preprocessor=dict(
        size=_base_.crop_size,
        # whole patches; what is added is cut off the prediction
        test_cfg=dict(size_divisor=_base_.stride),
    ),
    # the base's is of a ResNet-50
    backbone=dict(_delete_=True, **_base_.student, **_base_.maps),
    decode_head=dict(
        in_channels=_base_.channels[3], num_classes=_base_.num_classes
    ),
    auxiliary_head=dict(
        in_channels=_base_.channels[2], num_classes=_base_.num_classes
    ),
)
