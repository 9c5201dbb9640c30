"""off.KD-Drop of Table 6: a frozen SwAV teacher. Paper: 66.0.

Takes `work_dirs/swav_resnet50_8xb32-coslr-800e_in1k/epoch_800.pth`. Details
are in a missing appendix: codes use the teacher's frozen prototypes, the
student's own start as a copy, 130 epochs follow CompRess.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'kd-drop_resnet18-resnet50_8xb32-coslr-800e_in1k.py'

teacher_run = 'work_dirs/swav_resnet50_8xb32-coslr-800e_in1k'
model = dict(
    teacher=dict(
        frozen=True,
        checkpoint=teacher_run + '/epoch_800.pth',
        extra_keys=dict(prototypes='heads.clustering.prototypes.weight'),
    ),
    heads=dict(
        clustering=dict(train=('student',), teacher_prototypes=True),
    ),
)
train_cfg = dict(max_epochs=130)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        by_epoch=True,
        begin=0,
        end=130,
        T_max=130,
        convert_to_iter_based=True,
    )
]
