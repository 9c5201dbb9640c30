"""OSS in miniature: a sixteenth-width ResNet-18 taught by a half-width one.

The main job of ``make demo``: everything of the paper's recipe at CPU size
(online teacher, dropout views, feature classifier, codes with a queue).
Five to seven minutes on two cores with bfloat16 (``--amp``).

    python tools/train.py THIS_FILE --amp
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/garments_single.py',
    '../_base_/schedules/demo_adamw_coslr_700i.py',
]

student = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
neck = dict(
    type='DropoutProjectionNeck',
    in_channels=32,
    hid_channels=256,
    out_channels=64,
)
model = dict(
    type='Distiller',
    backbone=student,
    neck=neck,
    teacher=dict(
        type='Teacher',
        frozen=False,
        backbone=dict(
            type='ResNet', depth=18, stem_channels=32, base_channels=32
        ),
        neck=dict(
            type='DropoutProjectionNeck',
            in_channels=256,
            hid_channels=256,
            out_channels=64,
        ),
    ),
    heads=dict(
        clustering=dict(
            type='OnlineClusteringHead',
            embed_dim=64,
            num_prototypes=100,
            codes_from='teacher',
            train=('teacher', 'student'),
            dropout_views=True,
            # late: while the embeddings still change fast, codes shared
            # with old ones are worse than codes of the batch alone
            queue_length=512,
            queue_start=500,
        ),
        # In so short a run, at AdamW's learning rate, a reversal of 1 or 0.1
        # makes classifier and embeddings chase each other, and the teacher
        # pays for it; its effect here is small, as in Table 6 of the paper.
        domain=dict(type='FeatureClassifierHead', embed_dim=64, alpha=0.01),
    ),
    channels_last=True,
)

# The small student bears more than the teacher does.
slow = dict(lr_mult=0.5)
optim_wrapper = dict(
    constructor='MergedConstructor',
    paramwise_cfg=dict(custom_keys={'teacher.': slow, 'heads.': slow}),
)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(by_epoch=False, interval=50, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
custom_hooks = [
    dict(type='HealthHook'),
    dict(
        type='KNNProbeHook',
        bank={{_base_.bank}},
        query={{_base_.query}},
        interval=200,
        by_epoch=False,
        at_start=True,
        keep_images=True,
    ),
]
