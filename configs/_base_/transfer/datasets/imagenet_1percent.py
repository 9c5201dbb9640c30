# 1 % of ImageNet's training images, by a list of
# tools/dataset_converters/image_lists.py.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

num_classes = 1000
train_dataloader = dict(
    num_workers=8, dataset=dict(ann_file='meta/train_1percent.txt')
)
val_dataloader = dict(num_workers=8)
test_dataloader = dict(num_workers=8)
