"""SEED, ResNet-34, main table: linear top-1 58.5 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(backbone=dict(depth=34))
