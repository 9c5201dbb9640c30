# Batch norms are trained, over all processes.
_base_ = '../default_runtime.py'
