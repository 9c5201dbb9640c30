"""KD alone, MobileNetV3-Large, Table 5: linear top-1 37.3 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'kd_resnet18-resnet50_8xb32-steplr-100e_in1k.py'

student = 'work_dirs/mocov2_mobilenet-v3_8xb32-coslr-200e_in1k/epoch_200.pth'
model = dict(
    backbone=dict(
        _delete_=True,  # of another class
        type='MobileNetV3',
        arch='large',
        init_cfg=dict(
            type='Pretrained', checkpoint=student, prefix='backbone.'
        ),
    ),
    head=dict(in_channels=960),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
