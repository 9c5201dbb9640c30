"""KD after DisCo, EfficientNet-B0, Table 5: linear top-1 65.8 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'kd_resnet18-resnet50_8xb32-steplr-100e_in1k.py'

student = (
    'work_dirs/disco_efficientnet-b0-resnet50_8xb32-coslr-200e_in1k/'
    'epoch_200.pth'
)
model = dict(
    backbone=dict(
        _delete_=True,  # of another class
        type='EfficientNet',
        arch='b0',
        init_cfg=dict(
            type='Pretrained', checkpoint=student, prefix='backbone.'
        ),
    ),
    head=dict(in_channels=1280),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
