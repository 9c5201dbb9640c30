"""Phase 1 without queue and momentum: negatives are the batch's.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'moco-margin_resnet50_8xb32-steplr-800e_vipriors.py'

model = dict(momentum=None, heads=dict(contrast=dict(in_batch=True)))
