"""Strategy study, l2 distance: linear top-1 55.3 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    heads=dict(
        _delete_=True,
        distance=dict(type='EmbeddingHead', weight=1.0),
    ),
)
