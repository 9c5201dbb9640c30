"""SEED, ResNet-34, double-width SwAV teacher, small patches: 65.7.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed-patches_resnet18-resnet50w2_8xb32-coslr-800e_in1k.py'

model = dict(backbone=dict(depth=34))
