"""KD as the published code weighs it: divided by the classes as well.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'kd_resnet18-resnet50_8xb32-steplr-100e_in1k.py'

model = dict(distill_heads=dict(kd=dict(reduction='mean')))
