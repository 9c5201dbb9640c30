"""SEED with a weight decay of 1e-3.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

optim_wrapper = dict(optimizer=dict(weight_decay=1e-3))
