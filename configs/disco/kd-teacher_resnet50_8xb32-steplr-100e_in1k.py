"""A classifier on MoCo-v2's ResNet-50: the teacher of the rows "KD".

The paper asks for a teacher of 1000 classes and does not say how it learnt
them. Takes `work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth`.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/models/classifier_resnet50.py',
    '../_base_/schedules/linear_sgd_steplr_100e.py',
]

pretrained = 'work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
model = dict(
    backbone=dict(
        frozen_stages=4,  # in evaluation mode, too
        init_cfg=dict(
            type='Pretrained', checkpoint=pretrained, prefix='backbone.'
        ),
    )
)
sync_bn = None
