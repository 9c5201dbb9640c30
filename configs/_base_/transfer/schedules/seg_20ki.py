# mmseg's 20,000 iterations; of the checkpoints only the last two stay.
_base_ = 'mmseg::_base_/schedules/schedule_20k.py'

default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
