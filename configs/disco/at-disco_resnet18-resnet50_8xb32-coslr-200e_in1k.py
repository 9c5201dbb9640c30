"""AT + DisCo, Table 5: linear top-1 60.0 in the paper.

Not stated are stages, weight and, without DisCo, the hidden width; here
the last map, 1 and MoCo-v2's.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(heads=dict(attention=dict(type='AttentionTransferHead')))
