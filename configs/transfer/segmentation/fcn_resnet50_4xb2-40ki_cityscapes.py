"""FCN on Cityscapes, from a ResNet-50.

bash tools/dist_train.sh THIS_FILE 4 --cfg-options \
    model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet50.py',
    '../../_base_/transfer/models/fcn.py',
    '../../_base_/transfer/datasets/cityscapes.py',
    '../../_base_/transfer/schedules/seg_40ki.py',
    '../../_base_/transfer/runtime_seg.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    # the base's has another stem
    backbone=dict(_delete_=True, **_base_.student, **_base_.dilated),
    # a quarter of the channels, as mmseg has it
    decode_head=dict(
        in_channels=_base_.channels[3],
        channels=512,
        num_classes=_base_.num_classes,
    ),
    auxiliary_head=dict(
        in_channels=_base_.channels[2],
        channels=256,
        num_classes=_base_.num_classes,
    ),
)
