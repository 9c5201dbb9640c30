"""SEED, ResNet-18 under a ResNet-152, main table: 59.5 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet152_8xb32-coslr-400e_in1k'
model = dict(
    teacher=dict(
        backbone=dict(depth=152),
        checkpoint=teacher_run + '/epoch_400.pth',
    )
)
