# mmdet's 12 epochs at batch 16.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'
