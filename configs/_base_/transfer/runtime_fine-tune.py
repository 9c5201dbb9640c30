# Batch norms are trained, over all processes.
_base_ = '../default_runtime.py'

custom_hooks = [dict(type='HealthHook'), dict(type='TransferHook')]
