"""Strategy study, SEED + MoCo-v2 of equal weight: 57.6 in the paper.

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
    momentum=dict(decay=0.999),
    # a forward pass for each crop, as in the published codes; SEED's term is
    # of the first one
    separate_views=True,
    heads=dict(
        similarity=dict(views='first'),
        contrast=dict(
            type='MomentumContrastHead',
            queue_length=65536,
            temperature=0.2,
        ),
    ),
)
# batch norm by process, keys of shuffled images
sync_bn = None
