# Batch norms are trained, over all processes.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(
    imports=['mmssd', 'mmpretrain.models.utils.res_layer_extra_norm'],
    allow_failed_imports=False,
)
sync_bn = 'torch'
randomness = dict(seed=0)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
# proves what the backbone starts from, whoever starts the run
custom_hooks = [dict(type='mmpretrain.TransferHook')]
