"""Width study in miniature: one linear map instead of a hidden layer.

python tools/train.py THIS_FILE --amp
"""

_base_ = 'disco_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='LinearNeck',
        in_channels=32,
        out_channels=64,
        norm_cfg=None,
    )
)
