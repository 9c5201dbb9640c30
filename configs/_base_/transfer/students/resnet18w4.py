# The student of the demo: a ResNet-18 of a sixteenth of the width.
# Maps at strides 4, 8, 16 and 32.
student = dict(
    type='ResNet',
    depth=18,
    stem_channels=4,
    base_channels=4,
    out_indices=(0, 1, 2, 3),
    norm_eval=False,
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [4, 8, 16, 32]
# of an FCN: stride 8 everywhere behind the second stage
dilated = dict(
    strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True
)
