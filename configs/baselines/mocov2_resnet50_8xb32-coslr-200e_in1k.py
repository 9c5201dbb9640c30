"""MoCo-v2 on ResNet-50: pretrains a teacher of DisCo.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'mocov2_resnet18_8xb32-coslr-200e_in1k.py'

model = dict(
    backbone=dict(depth=50),
    neck=dict(in_channels=2048, hid_channels=2048),
)

# students of SEED have these as their teachers
default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook', keep=[50, 100, 150])
)
