"""DisCo in miniature: MoCo-v2 beside the embedding of the frozen OSS teacher.

The student's projector is widened to eight times its backbone, the teacher's
own width. Needs the teacher that ``make demo`` trains.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'seed_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    neck=dict(hid_channels=256),
    # as MoCo-v2 alone beside it
    momentum=dict(decay=0.99),
    heads=dict(
        _delete_=True,
        contrast=dict(
            type='MomentumContrastHead',
            embed_dim=64,
            queue_length=8192,
            temperature=0.2,
        ),
        # the weight of the published run, whatever the batch
        embedding=dict(type='EmbeddingHead', weight=32.0),
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
