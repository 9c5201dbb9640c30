"""MoCo-v2 on ResNet-18: linear top-1 52.2 in the paper of DisCo.

DisCo's instructions for its code train the ResNets with a hidden layer of
1280; the paper's baseline has the student's own width, as here.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/mocov2_resnet18.py',
    '../_base_/datasets/imagenet_mocov2_2x224.py',
    '../_base_/schedules/mocov2_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
# batch norm by process, keys of shuffled images
sync_bn = None
