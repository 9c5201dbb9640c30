"""CRD without labels, OSS Table 1: linear top-1 58.2 in the paper.

Its settings are not stated: those of CRD, the recipe of CompRess.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../compress/compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k.py'

model = dict(
    heads=dict(
        _delete_=True,
        contrast=dict(
            type='ContrastiveRepresentationHead',
            num_images=1_281_167,
            student_dim=512,
            teacher_dim=2048,
        ),
    ),
)
