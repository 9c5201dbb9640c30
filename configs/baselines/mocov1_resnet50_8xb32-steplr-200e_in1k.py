"""MoCo-v1 on ResNet-50: pretrains a teacher of SEED.

A linear projector, views without blur, temperature 0.07, and a rate that
drops twice to a tenth.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/mocov2_resnet18.py',
    '../_base_/datasets/imagenet_mocov1_2x224.py',
    '../_base_/schedules/mocov1_sgd_steplr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(depth=50),
    neck=dict(
        _delete_=True,  # of one layer instead of two
        type='LinearNeck',
        in_channels=2048,
        out_channels=128,
        gap_dim=2,
        norm_cfg=None,
    ),
    heads=dict(contrast=dict(temperature=0.07)),
)
# batch norm by process, keys of shuffled images
sync_bn = None
