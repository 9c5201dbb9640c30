"""CompRess with one queue, OSS Table 1: linear top-1 65.6 in the paper.

A linear map, dropped afterwards, takes the student to the width of the
teacher, whose queue serves both.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/compress_resnet18-resnet50.py',
    '../_base_/datasets/imagenet_supervised_1x224.py',
    '../_base_/schedules/compress_sgd_step_130e.py',
    '../_base_/default_runtime.py',
]

teacher_run = 'work_dirs/swav_resnet50_8xb32-coslr-800e_in1k'
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(checkpoint=teacher_run + '/epoch_800.pth'),
)
# batch norm by process
sync_bn = None
