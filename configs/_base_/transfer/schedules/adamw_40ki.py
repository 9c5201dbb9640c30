# As adamw_20ki.py, twice as long.
_base_ = 'adamw_20ki.py'

train_cfg = dict(max_iters=40_000, val_interval=4_000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=40_000),
]
default_hooks = dict(checkpoint=dict(interval=4_000))
