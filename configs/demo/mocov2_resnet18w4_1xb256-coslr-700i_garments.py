"""The demo's student by MoCo-v2 alone: what SEED and CompRess have to beat.

As many student updates as theirs, two views of each image.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='MoCoV2Neck',
        in_channels=32,
        hid_channels=32,
        out_channels=64,
    ),
    teacher=None,
    # of 0.999 an average over most of so short a run would be left
    momentum=dict(decay=0.99),
    heads=dict(
        _delete_=True,
        contrast=dict(
            type='MomentumContrastHead',
            embed_dim=64,
            queue_length=8192,
            temperature=0.2,
        ),
    ),
    num_global=2,
)
data_preprocessor = dict(
    views=[
        dict(
            num=2,
            size=32,
            scale=(0.6, 1.0),
            jitter=(0.2, 0.2, 0.2, 0.1),
            jitter_prob=0.8,
            grey_prob=0.2,
            blur_prob=0.0,
        ),
    ],
)
# the base rate is the best of a grid (docs/results); here for all
optim_wrapper = dict(paramwise_cfg=None)
