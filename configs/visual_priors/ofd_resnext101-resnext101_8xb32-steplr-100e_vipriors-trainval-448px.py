"""And with ResNeXt-101, Table 3: test top-1 62.3 in the paper.

The paper does not say which; this is 32x4d. Takes
`work_dirs/moco-margin_resnext101_8xb32-steplr-800e_vipriors/epoch_800.pth`.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'ofd_resnet50-resnet50_8xb32-steplr-100e_vipriors-trainval-448px.py'

phase_1 = (
    'work_dirs/moco-margin_resnext101_8xb32-steplr-800e_vipriors/epoch_800.pth'
)
model = dict(
    backbone=dict(
        type='ResNeXt',
        depth=101,
        groups=32,
        width_per_group=4,
        init_cfg=dict(checkpoint=phase_1),
    ),
    teacher=dict(
        backbone=dict(type='ResNeXt', depth=101, groups=32, width_per_group=4),
        checkpoint=phase_1,
    ),
)
