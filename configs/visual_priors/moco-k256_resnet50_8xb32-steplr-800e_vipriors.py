"""No margin, 256 negatives, Table 2: linear top-1 29.1 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'moco-margin_resnet50_8xb32-steplr-800e_vipriors.py'

model = dict(heads=dict(contrast=dict(queue_length=256, margin=0.0)))
