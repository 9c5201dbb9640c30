"""SwAV with dropout views, Table 6: linear top-1 64.2 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'swav_resnet18_8xb32-coslr-800e_in1k.py'

model = dict(heads=dict(clustering=dict(dropout_views=True)))
