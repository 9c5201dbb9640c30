"""SEED, temperature of the teacher 0.001: linear top-1 57.6 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(heads=dict(similarity=dict(teacher_temperature=0.001)))
