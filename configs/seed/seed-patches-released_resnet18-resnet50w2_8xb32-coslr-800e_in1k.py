"""SEED with small patches under SwAV's released double-width ResNet-50.

The released file is of 400 epochs; the paper's teacher has 800.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    'seed-patches_resnet18-resnet50w2_8xb32-coslr-800e_in1k.py',
    '../_base_/teachers/swav_resnet50w2_400e.py',
]

model = dict(teacher=dict(_delete_=True, **_base_.swav_resnet50w2_400e))
