# Any folder of pictures, with the views of the ImageNet recipe. Yours:
#   --cfg-options train_dataloader.dataset.data_root=/path/to/pictures
_base_ = 'imagenet_swav_2x224-6x96.py'

data_root = 'data/images'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,  # ImageNet has a split
        type='UnlabelledFolder',
        data_root=data_root,
        pipeline=[
            dict(type='LoadImage', max_broken=100),
            *_base_.train_pipeline[1:],
        ],
    )
)
