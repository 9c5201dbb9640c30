"""SEED, teacher study: SwAV of 800 epochs, 400 epochs, 62.0 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-swav-resnet50_8xb32-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=400)
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.03, T_max=400, warmup=5)]
