"""OSS (KD-Drop-Adv), Tables 1, 2, 3 and 6: linear top-1 68.3 in the paper.

Stated by the paper: batch 256 on 8 GPUs, 800 epochs, dropout 0.1 and 0.05,
weights 1. The rest follows SwAV at batch 256 (its appendix is not public).

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swav_2x224-6x96.py',
    '../_base_/models/oss_resnet18-resnet50.py',
    '../_base_/schedules/swav_larc_coslr_800e.py',
]

# Figure 3 looks at these
default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook', keep=[200, 400])
)
