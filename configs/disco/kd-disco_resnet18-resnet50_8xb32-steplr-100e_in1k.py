"""KD after DisCo, ResNet-18, Table 5: linear top-1 60.6 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'kd_resnet18-resnet50_8xb32-steplr-100e_in1k.py'

student = (
    'work_dirs/disco_resnet18-resnet50_8xb32-coslr-200e_in1k/epoch_200.pth'
)
model = dict(backbone=dict(init_cfg=dict(checkpoint=student)))
