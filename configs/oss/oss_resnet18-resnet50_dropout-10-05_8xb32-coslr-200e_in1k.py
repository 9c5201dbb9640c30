"""Dropout rates 0.1 and 0.05, Table 8.

The length of the schedule of that table is not stated; 200 epochs here.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    neck=dict(dropout=(0.1, 0.05)),
    teacher=dict(neck=dict(dropout=(0.1, 0.05))),
)
