"""OSS with the ramp of DANN for the gradient reversal, instead of a constant.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-800e_in1k.py'

model = dict(heads=dict(domain=dict(alpha='dann')))
