"""And with label smoothing 0.1, Table 3: test top-1 64.2 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = (
    'ofd_resnext101-resnext101_8xb32-steplr-100e_vipriors-trainval-448px.py'
)

model = dict(
    head=dict(
        loss=dict(
            _delete_=True,  # of another class
            type='LabelSmoothLoss',
            label_smooth_val=0.1,
            num_classes=1000,
            mode='original',
        )
    )
)
