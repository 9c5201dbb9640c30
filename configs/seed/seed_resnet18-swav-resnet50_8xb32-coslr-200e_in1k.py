"""SEED, teacher study: SwAV of 800 epochs, 61.7 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/seed_resnet18-resnet50.py',
    '../_base_/datasets/imagenet_seed-swav_1x224.py',
    '../_base_/schedules/seed_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

teacher_run = 'work_dirs/swav_resnet50_8xb32-coslr-800e_in1k'
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(
        neck=dict(
            _delete_=True,  # SwAV's, with batch norm
            type='DropoutProjectionNeck',
            in_channels=2048,
            hid_channels=2048,
            out_channels=128,
        ),
        checkpoint=teacher_run + '/epoch_800.pth',
    ),
)
# batch norm by process
sync_bn = None
