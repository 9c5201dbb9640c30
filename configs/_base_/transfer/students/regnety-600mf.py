# RegNetY-600MF of timm, which has to be there: `pip install timm`.
# Maps at strides 4, 8, 16 and 32.
student = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='regnety_006',
    features_only=True,
    out_indices=(1, 2, 3, 4),
    init_cfg=dict(
        type='Pretrained', checkpoint='student.pth', prefix='backbone.'
    ),
)
channels = [48, 112, 256, 608]
# of an FCN: no dilations, the last map has stride 32
dilated = dict()
