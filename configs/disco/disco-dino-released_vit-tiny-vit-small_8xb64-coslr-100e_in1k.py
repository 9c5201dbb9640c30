"""DisCo with DINO under the released ViT-small, Table 6: 68.4 in the paper.

Of 800 epochs, as DINO publishes the whole training.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    'disco-dino_vit-tiny-vit-small_8xb64-coslr-100e_in1k.py',
    '../_base_/teachers/dino_vit-small-p16_800e.py',
]

model = dict(teacher=dict(_delete_=True, **_base_.dino_vit_small_p16_800e))
