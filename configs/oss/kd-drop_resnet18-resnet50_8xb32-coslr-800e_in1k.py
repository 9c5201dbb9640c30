"""KD-Drop of Table 6: dropout views, no feature classifier. Paper: 68.4.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-800e_in1k.py'

model = dict(heads=dict(domain=None))
