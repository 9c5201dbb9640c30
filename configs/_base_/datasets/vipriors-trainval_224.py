# VIPriors, trained on train and val together, tested on test.
_base_ = 'vipriors_224.py'

data_root = 'data/vipriors'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,  # two sets instead of one
        type='ConcatDataset',
        datasets=[
            dict(
                type='ImageNet',
                data_root=data_root,
                split=split,
                pipeline=_base_.train_pipeline,
            )
            for split in ('train', 'val')
        ],
    )
)
val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = dict(
    dataset=dict(
        _delete_=True,  # mmpretrain's ImageNet has no labels of `test`
        type='CustomDataset',
        data_root=data_root,
        data_prefix='test',
        pipeline=_base_.test_pipeline,
    )
)
