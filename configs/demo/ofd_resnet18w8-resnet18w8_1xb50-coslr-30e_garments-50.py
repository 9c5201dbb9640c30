"""Visual Priors in miniature, Table 1: phase 1, then phase 2.

Teacher and student are phase 1.

    python tools/train.py THIS_FILE
"""

_base_ = 'finetune_resnet18w8_1xb50-coslr-30e_garments-50.py'

widths = (8, 16, 32, 64)
model = dict(
    type='DistillClassifier',
    teacher=dict(
        type='Teacher',
        backbone=dict(
            type='ResNet',
            depth=18,
            stem_channels=8,
            base_channels=8,
            zero_init_residual=False,
        ),
        checkpoint=_base_.phase_1,
    ),
    distill_heads=dict(
        overhaul=dict(
            type='OverhaulHead',
            student_channels=widths,
            teacher_channels=widths,
            weight=1e-4,  # as published, at any size of the maps
            start=dict(epochs=4),  # from the fifth on
        )
    ),
)
