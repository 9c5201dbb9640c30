"""KD alone, ResNet-18, Table 5: linear top-1 51.5 in the paper.

The mean of the divergence is over images; the published code divides it by
the 1000 classes as well (`kd-published_*.py`).

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/models/kd_resnet18-resnet50.py',
    '../_base_/schedules/linear_sgd_steplr_100e.py',
]

student = 'work_dirs/mocov2_resnet18_8xb32-coslr-200e_in1k/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=student)))
sync_bn = None

custom_hooks = [dict(type='HealthHook'), dict(type='FrozenBackboneHook')]
