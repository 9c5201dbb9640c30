"""Phase 2 with the plain l2 distance, as eq. 4 of the paper is printed.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'ofd_resnet50-resnet50_8xb32-steplr-100e_vipriors.py'

model = dict(distill_heads=dict(overhaul=dict(distance='l2')))
