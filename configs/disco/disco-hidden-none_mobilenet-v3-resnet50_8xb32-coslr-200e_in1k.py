"""Width ablation, no hidden layer: linear top-1 60.3 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_mobilenet-v3-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    neck=dict(
        _delete_=True,  # one linear map
        type='LinearNeck',
        in_channels=960,
        out_channels=128,
        norm_cfg=None,
    )
)
