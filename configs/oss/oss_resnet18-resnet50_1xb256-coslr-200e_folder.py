"""OSS on your own unlabelled folder, one GPU.

    python tools/train.py THIS_FILE \
        --cfg-options train_dataloader.dataset.data_root=FOLDER
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/folder_swav_2x224-6x96.py',
    '../_base_/models/oss_resnet18-resnet50.py',
    '../_base_/schedules/swav_larc_coslr_200e.py',
]

train_dataloader = dict(batch_size=256)
