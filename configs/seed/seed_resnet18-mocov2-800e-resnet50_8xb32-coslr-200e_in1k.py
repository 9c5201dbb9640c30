"""SEED, teacher study: MoCo-v2 of 800 epochs, linear top-1 60.5 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-800e_in1k'
model = dict(teacher=dict(checkpoint=teacher_run + '/epoch_800.pth'))
