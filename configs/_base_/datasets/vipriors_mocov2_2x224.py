# VIPriors' train without its labels: MoCo-v2's views.
_base_ = 'imagenet_mocov2_2x224.py'

train_dataloader = dict(dataset=dict(data_root='data/vipriors'))
