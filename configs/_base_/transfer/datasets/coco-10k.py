# The first of five subsets of COCO 2017, of tools/dataset_converters/
# coco_subsets.py; each image is seen 3 times in an epoch. The others by
#   --cfg-options train_dataloader.dataset.dataset.ann_file=\
#       annotations/instances_train2017_10k_2.json
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

train_dataloader = dict(
    dataset=dict(
        # the base's data set, inside another
        _delete_=True,
        type='RepeatDataset',
        times=3,
        dataset=dict(
            type='CocoDataset',
            data_root=_base_.data_root,
            ann_file='annotations/instances_train2017_10k_1.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=_base_.train_pipeline,
        ),
    )
)
