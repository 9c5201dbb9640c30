"""SEED, teacher study: MoCo-v1 of 200 epochs, linear top-1 52.1 in the paper.

Augmentation of MoCo-v1, as the code has it for this teacher.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/seed_resnet18-resnet50.py',
    '../_base_/teachers/moco-v1_resnet50_200e.py',
    '../_base_/datasets/imagenet_mocov1_1x224.py',
    '../_base_/schedules/seed_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(_delete_=True, **_base_.moco_v1_resnet50_200e),
)
# batch norm by process
sync_bn = None
