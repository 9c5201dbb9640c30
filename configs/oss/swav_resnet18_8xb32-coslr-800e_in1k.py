"""SwAV on the student alone, Table 6: linear top-1 64.9 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_swav_2x224-6x96.py',
    '../_base_/models/swav_resnet18.py',
    '../_base_/schedules/swav_larc_coslr_800e.py',
]
