"""Linear probe of DINO, on an XCiT-tiny.

Of the class token behind the final norm, as DINO's own probe of an XCiT,
which resizes test images bicubically.

    bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/xcit-tiny.py',
    '../../_base_/transfer/models/linear.py',
    '../../_base_/transfer/datasets/imagenet.py',
    '../../_base_/transfer/schedules/linear_dino.py',
    '../../_base_/transfer/runtime_linear.py',
]

model = dict(
    backbone=_base_.student,
    neck=None,  # the token is pooled already
    head=dict(in_channels=_base_.channels[3], num_classes=_base_.num_classes),
)
