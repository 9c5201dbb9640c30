"""k-NN, clusters and a linear probe on ImageNet, of an XCiT-tiny.

On class tokens that are computed once, of centre crops of 224 px:

    python tools/analysis/knn.py THIS_FILE student.pth --k 20 200
"""

_base_ = [
    '../../_base_/transfer/students/xcit-tiny.py',
    '../../_base_/transfer/models/features.py',
    '../../_base_/datasets/imagenet_eval_sets.py',
    '../../_base_/default_runtime.py',
]

data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
# the tools load the checkpoint
model = dict(backbone=dict(_base_.student, init_cfg=None), neck=None)
