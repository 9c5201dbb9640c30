"""SEED with a queue of 4096 rows.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(heads=dict(similarity=dict(queue_length=4096)))
