"""CompRess with one queue in miniature, under the OSS demo's teacher.

Pooled features without projectors; a linear map of the head takes the
student's to the teacher's width. Needs the teacher that ``make demo`` trains.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'seed_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    neck=None,
    teacher=dict(neck=None),
    heads=dict(
        similarity=dict(
            _delete_=True,
            type='SimilarityQueueHead',
            objective='compress',
            embed_dim=256,
            student_dim=32,
            queue_length=16384,
            student_queue='teacher',
        ),
    ),
)
