"""SEED, teacher study: SwAV of 800 epochs, 100 epochs, 61.1 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-swav-resnet50_8xb32-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=100)
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.03, T_max=100, warmup=5)]
