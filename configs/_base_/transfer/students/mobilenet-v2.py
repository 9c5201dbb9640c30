# MobileNetV2; the last tap is behind the 1x1 convolution, so that all is used.
# Maps at strides 4, 8, 16 and 32.
student = dict(
    type='mmpretrain.MobileNetV2',
    out_indices=(1, 2, 4, 7),
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [24, 32, 96, 1280]
# of an FCN: no dilations, the last map has stride 32
dilated = dict()
