"""Width ablation, no hidden layer: linear top-1 52.5 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    neck=dict(
        _delete_=True,  # one linear map
        type='LinearNeck',
        in_channels=512,
        out_channels=128,
        norm_cfg=None,
    )
)
