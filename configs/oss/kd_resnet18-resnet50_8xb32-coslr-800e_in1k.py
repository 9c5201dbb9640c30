"""KD of Table 6: no dropout views, no feature classifier. Paper: 68.2.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-800e_in1k.py'

model = dict(heads=dict(clustering=dict(dropout_views=False), domain=None))
