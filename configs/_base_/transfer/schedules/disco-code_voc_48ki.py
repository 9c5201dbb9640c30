# DisCo's code: lr 0.01, steps at 18k and 22k.
_base_ = 'disco_voc_48ki.py'

param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[18_000, 22_000]),
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
