"""Regression with batch norm (Reg-BN), OSS Table 5: 62.3 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'reg_mobilenet-v2-mocov2-resnet50_8xb32-130e_in1k.py'

model = dict(heads=dict(embedding=dict(norm='bn')))
