"""Cluster classification (CC), OSS Table 5: linear top-1 59.2 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'cc_resnet18-swav-resnet50_8xb32-90e_in1k.py'

model = dict(
    # only these: the base's depth is of another backbone class
    backbone=dict(_delete_=True, type='MobileNetV2'),
    head=dict(in_channels=1280),
)
lists = 'meta/mocov2-resnet50_k2000'
train_dataloader = dict(dataset=dict(ann_file=lists + '/train.txt'))
val_dataloader = dict(dataset=dict(ann_file=lists + '/val.txt'))
