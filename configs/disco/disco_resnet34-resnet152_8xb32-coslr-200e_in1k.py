"""DisCo under a ResNet-152, Table 1: linear top-1 68.1 in the paper.

Teacher of 400 epochs, as the paper says; the command of its code loads
one of 800.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet34-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet152_8xb32-coslr-400e_in1k'
model = dict(
    teacher=dict(
        backbone=dict(depth=152),
        checkpoint=teacher_run + '/epoch_400.pth',
    )
)
