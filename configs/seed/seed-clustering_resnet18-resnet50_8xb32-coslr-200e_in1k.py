"""Strategy study, online clustering: linear top-1 56.4 in the paper.

Codes of the teacher over prototypes that are trained, two views.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/seed_resnet18-resnet50.py',
    '../_base_/datasets/imagenet_mocov2_2x224.py',
    '../_base_/schedules/seed_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k'
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(checkpoint=teacher_run + '/epoch_200.pth'),
    heads=dict(
        _delete_=True,
        clustering=dict(
            type='OnlineClusteringHead',
            num_prototypes=3000,
            codes_from='teacher',
            train=('student',),
            queue_length=3840,
            queue_start=dict(epochs=15),
            freeze_prototypes=dict(epochs=1),
        ),
    ),
)
# batch norm by process
sync_bn = None
