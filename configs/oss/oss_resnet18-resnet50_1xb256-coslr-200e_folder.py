"""OSS on your own unlabelled folder, one GPU.

Set the folder by --cfg-options train_dataloader.dataset.data_root=FOLDER.
The iterations of `queue_start` and `freeze_prototypes` are those of
ImageNet: set them to 15 epochs and 1 epoch of your data.

    python tools/train.py THIS_FILE
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/folder_swav_2x224-6x96.py',
    '../_base_/models/oss_resnet18-resnet50.py',
    '../_base_/schedules/swav_larc_coslr_200e.py',
]

train_dataloader = dict(batch_size=256)
