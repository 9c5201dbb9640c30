"""SwAV on ResNet-50: pretrains the teacher of off.KD-Drop.

The released 800-epoch teacher used batch 4096; this is the batch-256 recipe.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'swav_resnet18_8xb32-coslr-800e_in1k.py'

model = dict(backbone=dict(depth=50), neck=dict(in_channels=2048))
