"""SEED with a projector of three layers.

As SEED's own of two, without batch norm and with PyTorch's initialisation:
the depth alone differs.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='MLPNeck',
        in_channels=512,
        hid_channels=512,
        out_channels=128,
        num_layers=3,
        act_cfg=dict(type='ReLU'),
        init_cfg=[],  # not that of DINO
    ),
)
