"""RKD + DisCo, Table 5: linear top-1 64.4 in the paper.

Distances and angles of the first crop, weight 1 each; relations are those
of the images of one process. Without DisCo, the hidden layer is MoCo-v2's
(not stated).

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_mobilenet-v3-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(heads=dict(relation=dict(type='RelationHead')))
