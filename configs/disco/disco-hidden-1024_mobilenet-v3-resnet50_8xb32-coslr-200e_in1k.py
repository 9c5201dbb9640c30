"""Width ablation, hidden layer of 1024: linear top-1 63.8 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_mobilenet-v3-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(neck=dict(hid_channels=1024))
