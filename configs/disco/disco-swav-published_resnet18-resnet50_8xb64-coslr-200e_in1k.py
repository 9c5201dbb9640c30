"""DisCo with SwAV, the teacher's output as it is, as in the published code.

The student's embeddings of all crops are normalised, the teacher's are not.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco-swav_resnet18-resnet50_8xb64-coslr-200e_in1k.py'

model = dict(heads=dict(embedding=dict(raw_target=True)))
