"""SEED with the temperature that its code defaults to, 1e-4.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(heads=dict(similarity=dict(teacher_temperature=1e-4)))
