# mmdet's 12 epochs at batch 16. The 5,000 images of val take as long as many
# iterations on a subset: tested half-way and at the end.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

train_cfg = dict(val_interval=6)
