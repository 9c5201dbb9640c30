"""DINO on ViT-small/16: pretrains a teacher of DisCo.

The teacher of Table 6 is the released one, trained for longer.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'dino_vit-tiny_8xb64-coslr-100e_in1k.py'

model = dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384))
