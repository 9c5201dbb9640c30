"""OSS with another student, Table 4: linear top-1 67.4 in the paper.

Needs timm, as requirements.txt installs it, or `pip install timm`.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'oss_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    backbone=dict(
        # only these: the base's are of another backbone class
        _delete_=True,
        type='TIMMBackbone',
        model_name='regnety_006',
        features_only=True,
        out_indices=(1, 2, 3, 4),
    ),
    neck=dict(in_channels=608),
)
