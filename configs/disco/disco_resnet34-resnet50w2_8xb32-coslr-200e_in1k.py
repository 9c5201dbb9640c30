"""DisCo under a SwAV teacher of double width, Table 1.

Teacher of 800 epochs, as the paper says; its code loads the released one
of 400.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'disco_resnet34-resnet50_8xb32-coslr-200e_in1k.py'

teacher_run = 'work_dirs/swav_resnet50w2_8xb32-coslr-800e_in1k'
model = dict(
    teacher=dict(
        backbone=dict(stem_channels=128, base_channels=128),
        neck=dict(
            _delete_=True,  # SwAV's, with batch norm
            type='DropoutProjectionNeck',
            in_channels=4096,
            hid_channels=8192,
            out_channels=128,
        ),
        checkpoint=teacher_run + '/epoch_800.pth',
    )
)
