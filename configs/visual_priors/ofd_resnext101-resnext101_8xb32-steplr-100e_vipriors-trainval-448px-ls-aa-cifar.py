"""AutoAugment with the policy of CIFAR-10, which the published code has.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = (
    'ofd_resnext101-resnext101_8xb32-steplr-100e_vipriors-trainval-448px-ls.py'
)

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='TorchvisionAutoAugment', policy='cifar10'),
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
