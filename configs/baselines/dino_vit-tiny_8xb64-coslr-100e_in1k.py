"""DINO on ViT-tiny/16, Table 6 of DisCo: linear top-1 63.2 in its paper.

DINO's own defaults, as the paper states no recipe.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/dino_vit-tiny.py',
    '../_base_/datasets/imagenet_dino_2x224-8x96.py',
    '../_base_/schedules/dino_adamw_coslr_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
