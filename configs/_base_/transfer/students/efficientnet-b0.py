# EfficientNet-B0; the last tap is behind the 1x1 convolution.
# Maps at strides 4, 8, 16 and 32.
student = dict(
    type='mmpretrain.EfficientNet',
    arch='b0',
    out_indices=(2, 3, 4, 6),
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [24, 40, 112, 1280]
# of an FCN: no dilations, the last map has stride 32
dilated = dict()
