"""The demo's student by SwAV alone: what distillation has to beat.

As many student updates, the same views and the same schedule as the OSS
run beside it.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    teacher=None,
    heads=dict(
        # only this head: the feature classifier needs a teacher
        _delete_=True,
        clustering=dict(
            type='OnlineClusteringHead',
            embed_dim=64,
            num_prototypes=100,
            codes_from='student',
            train=('student',),
            queue_length=512,
            queue_start=500,
        ),
    ),
)
# the best of a grid (docs/results) is the base rate; here for all
optim_wrapper = dict(paramwise_cfg=None)
