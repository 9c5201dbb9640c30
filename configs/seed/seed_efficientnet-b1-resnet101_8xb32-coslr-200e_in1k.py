"""SEED, EfficientNet-B1 under a ResNet-101, main table: 63.4 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_efficientnet-b1-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet101_8xb32-coslr-200e_in1k'
model = dict(
    teacher=dict(
        backbone=dict(depth=101),
        checkpoint=teacher_run + '/epoch_200.pth',
    )
)
