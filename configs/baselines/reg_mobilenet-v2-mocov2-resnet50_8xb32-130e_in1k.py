"""Embedding regression (Reg), OSS Table 5: linear top-1 48.0 in the paper.

A linear map to the width of the teacher, unit rows, recipe of CompRess.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = (
    '../compress/compress-1q_mobilenet-v2-mocov2-resnet50_8xb32-130e_in1k.py'
)

model = dict(
    heads=dict(
        _delete_=True,
        embedding=dict(
            type='EmbeddingHead',
            field='features',
            student_dim=1280,
            teacher_dim=2048,
            weight=1.0,
        ),
    ),
)
