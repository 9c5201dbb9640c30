# As runtime_det_iters.py, with precise batch norm before the last test.
_base_ = 'runtime_det_iters.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmpretrain.PreciseBatchNormHook'),
]
