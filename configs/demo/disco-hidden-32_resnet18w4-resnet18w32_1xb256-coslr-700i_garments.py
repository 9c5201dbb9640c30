"""Width study in miniature: a hidden layer of 32 instead of 256.

python tools/train.py THIS_FILE --amp
"""

_base_ = 'disco_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(neck=dict(hid_channels=32))
