"""SEED in 800 epochs.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

train_cfg = dict(max_epochs=800)
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.03, T_max=800, warmup=5)]
