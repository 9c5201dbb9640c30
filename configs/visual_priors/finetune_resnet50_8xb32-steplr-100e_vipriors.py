"""Phase 1, then labels, all layers, Table 1: val top-1 39.4 in the paper.

From `work_dirs/moco-margin_resnet50_8xb32-steplr-800e_vipriors/epoch_800.pth`

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'supervised_resnet50_8xb32-steplr-100e_vipriors.py'

phase_1 = (
    'work_dirs/moco-margin_resnet50_8xb32-steplr-800e_vipriors/epoch_800.pth'
)
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=phase_1, prefix='backbone.'
        )
    )
)
