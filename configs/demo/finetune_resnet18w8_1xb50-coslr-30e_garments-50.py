"""Visual Priors in miniature, Table 1: phase 1, then labels, all layers.

python tools/train.py THIS_FILE
"""

_base_ = 'supervised_resnet18w8_1xb50-coslr-30e_garments-50.py'

phase_1 = 'work_dirs/demo/seed0/visual_priors/phase_1/iter_1600.pth'
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=phase_1, prefix='backbone.'
        )
    )
)
