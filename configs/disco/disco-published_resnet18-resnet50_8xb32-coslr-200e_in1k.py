"""DisCo with the teacher in training mode, as in the published code.

Its batch norms take the statistics of each batch.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(teacher=dict(imitate_train_mode=True))
