"""CompRess with one queue, OSS Table 5: linear top-1 63.0 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-800e_in1k'
model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV2'),
    teacher=dict(checkpoint=teacher_run + '/epoch_800.pth'),
    heads=dict(similarity=dict(student_dim=1280)),
)
