"""RKD + DisCo in miniature: distances and angles of the first view as well.

python tools/train.py THIS_FILE --amp
"""

_base_ = 'disco_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(heads=dict(relation=dict(type='RelationHead')))
