"""SEED, ResNet-18, double-width SwAV teacher, small patches: 63.0.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/seed_resnet18-resnet50.py',
    '../_base_/datasets/imagenet_seed-swav_1x224-6x96.py',
    '../_base_/schedules/seed_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

teacher_run = 'work_dirs/swav_resnet50w2_8xb32-coslr-800e_in1k'
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(
        backbone=dict(stem_channels=128, base_channels=128),
        neck=dict(
            _delete_=True,  # SwAV's, with batch norm
            type='DropoutProjectionNeck',
            in_channels=4096,
            hid_channels=8192,
            out_channels=128,
        ),
        checkpoint=teacher_run + '/epoch_800.pth',
    ),
    heads=dict(similarity=dict(small_patches=True)),
)
train_cfg = dict(max_epochs=800)
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.03, T_max=800, warmup=5)]
# batch norm by process
sync_bn = None
