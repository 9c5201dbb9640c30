"""DisCo with SwAV instead of MoCo-v2, distance of unit embeddings.

Takes `work_dirs/swav_resnet50_8xb32-coslr-800e_in1k/epoch_800.pth`.
SwAV's recipe at batch 256, with 64 images per process and the same learning
rate, as in the command of the published code; its paper gives no details.
The code's target is not normalised: see disco-swav-published_*.py. Between
unit rows the term is at most 4 * 0.5 / 128 = 0.016, beside a loss of SwAV that
starts at ln 3000 = 8: expect little of it.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../oss/swav_resnet18_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/swav_resnet50_8xb32-coslr-800e_in1k'
model = dict(
    teacher=dict(
        type='Teacher',
        backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
        neck=dict(
            type='DropoutProjectionNeck',
            in_channels=2048,
            hid_channels=2048,
            out_channels=128,
        ),
        checkpoint=teacher_run + '/epoch_800.pth',
    ),
    heads=dict(
        embedding=dict(
            type='EmbeddingHead',
            views='all',
            reduction='mean',
            # half of a mean over 128 elements, as in the published code
            weight=0.5 / 128,
        )
    ),
)
train_dataloader = dict(batch_size=64)
