"""And with AutoAugment, Table 3: test top-1 65.7 in the paper.

With `--ten-crop` 66.2, and as an ensemble of two 68.8, in the paper:

    bash tools/dist_train.sh THIS_FILE 8
    python tools/test.py THIS_FILE FIRST.pth --ten-crop
    python tools/test.py THIS_FILE FIRST.pth --ten-crop --ensemble SECOND.pth
"""

_base_ = (
    'ofd_resnext101-resnext101_8xb32-steplr-100e_vipriors-trainval-448px-ls.py'
)

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='TorchvisionAutoAugment', policy='imagenet'),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            {**dataset, 'pipeline': train_pipeline}
            for dataset in _base_.train_dataloader.dataset.datasets
        ]
    )
)
