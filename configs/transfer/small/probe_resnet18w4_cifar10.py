"""k-NN and linear probe on CIFAR-10, of the demo's ResNet-18.

python tools/analysis/linear_probe.py THIS_FILE student.pth
"""

_base_ = [
    '../../_base_/transfer/students/resnet18w4.py',
    '../../_base_/transfer/models/features.py',
    '../../_base_/transfer/datasets/small_cifar10.py',
    '../../_base_/default_runtime.py',
]

# the tools load the checkpoint
model = dict(backbone=dict(_base_.student, init_cfg=None))
