# VIPriors: 50 images of each of the 1000 classes of ImageNet in each of
# train, val and test, as `data/vipriors/<split>/<class>/*`. No other data.
_base_ = 'imagenet_224.py'

data_root = 'data/vipriors'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
