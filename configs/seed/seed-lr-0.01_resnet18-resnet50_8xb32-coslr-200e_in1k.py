"""SEED with a learning rate of 0.01.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(type='SEEDLR', unscaled_lr=0.01, T_max=200, warmup=5)]
