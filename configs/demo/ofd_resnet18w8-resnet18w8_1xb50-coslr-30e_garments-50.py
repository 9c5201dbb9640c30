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
            # Per element of a map 1e-6, a hundredth of the published weight:
            # maps have the sides of 224 px by reference_sizes, and a 32nd of
            # the channels. A teacher of 500 images is not to be kept close.
            weight=32e-6,
            reference_sizes=(56, 28, 14, 7),
            start=dict(epochs=4),  # from the fifth on
        )
    ),
)
