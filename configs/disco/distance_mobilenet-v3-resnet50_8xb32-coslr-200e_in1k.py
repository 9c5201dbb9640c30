"""Loss ablation, distillation alone: linear top-1 58.9 in the paper.

Without contrast, at the default hidden width. (Which row of the paper has
this loss is inferred from its text.)

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco-star_mobilenet-v3-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(momentum=None, heads=dict(contrast=None))
