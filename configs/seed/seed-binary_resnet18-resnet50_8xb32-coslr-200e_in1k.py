"""Strategy study, binary contrastive loss (as in CRD): 57.4 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'

model = dict(
    # the head maps pooled features itself
    neck=None,
    teacher=dict(neck=None),
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
