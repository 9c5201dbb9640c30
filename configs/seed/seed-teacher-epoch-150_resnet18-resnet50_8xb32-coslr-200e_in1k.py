"""SEED under the teacher as it was after 150 of its epochs.

The teacher's config, baselines/mocov2_resnet50_8xb32-coslr-200e_in1k.py, keeps
it.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k'
model = dict(teacher=dict(checkpoint=teacher_run + '/epoch_150.pth'))
