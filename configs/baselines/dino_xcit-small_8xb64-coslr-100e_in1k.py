"""DINO on XCiT-small-12/16: pretrains a teacher of DisCo.

The teacher of Table 6 is the released one, trained for longer.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'dino_xcit-tiny_8xb64-coslr-100e_in1k.py'

model = dict(
    backbone=dict(embed_dims=384, num_heads=8), neck=dict(in_channels=384)
)
