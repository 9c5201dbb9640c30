# ImageNet: `supervised` crops in training, `eval` crops in the test.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'

num_classes = 1000
train_dataloader = dict(num_workers=8)
val_dataloader = dict(num_workers=8)
test_dataloader = dict(num_workers=8)
