"""DisCo*, Table 3: linear top-1 65.6 in the paper.

The hidden layer has the width of MoCo-v2's projector.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_efficientnet-b0-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(neck=dict(hid_channels=1280))
