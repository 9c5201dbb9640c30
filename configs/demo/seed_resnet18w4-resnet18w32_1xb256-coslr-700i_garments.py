"""SEED in miniature: the OSS demo's teacher, frozen, teaches anew.

One view of each image, a queue of the teacher's embeddings. Needs the
teacher that ``make demo`` trains.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    neck=dict(
        # no batch norm, hidden width that of the backbone
        _delete_=True,
        type='MoCoV2Neck',
        in_channels=32,
        hid_channels=32,
        out_channels=64,
    ),
    teacher=dict(
        frozen=True,
        checkpoint='work_dirs/demo/seed0/oss/iter_700.pth',
        prefix='teacher.',
    ),
    heads=dict(
        _delete_=True,
        similarity=dict(
            type='SimilarityQueueHead',
            embed_dim=64,
            queue_length=8192,
            student_temperature=0.2,
            teacher_temperature=0.01,
        ),
    ),
    num_global=1,
)
data_preprocessor = dict(
    views=[
        dict(
            num=1,
            size=32,
            scale=(0.6, 1.0),
            jitter=(0.2, 0.2, 0.2, 0.1),
            jitter_prob=0.8,
            grey_prob=0.2,
            blur_prob=0.0,
        ),
    ],
)
# one learning rate for all
optim_wrapper = dict(paramwise_cfg=None)
