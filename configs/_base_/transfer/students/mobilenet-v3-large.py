# MobileNetV3-Large.
# Maps at strides 4, 8, 16 and 32.
student = dict(
    type='mmpretrain.MobileNetV3',
    arch='large',
    out_indices=(3, 6, 12, 16),
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [24, 40, 112, 960]
# of an FCN: no dilations, the last map has stride 32
dilated = dict()
