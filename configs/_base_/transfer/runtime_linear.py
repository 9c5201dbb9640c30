# The backbone is compared, bit by bit, after every epoch.
_base_ = '../default_runtime.py'

custom_hooks = [
    dict(type='HealthHook'),
    dict(type='FrozenBackboneHook'),
    dict(type='TransferHook'),
]
