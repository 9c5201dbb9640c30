"""Linear probe of DINO, on a ViT-tiny.

Of the class token of the last block, behind the final norm. DINO's own probe
of a ViT joins the tokens of the last four blocks, each behind the norm, and
resizes test images bicubically.

    bash tools/dist_train.sh THIS_FILE 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=student.pth
"""

_base_ = [
    '../../_base_/transfer/students/vit-tiny.py',
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
