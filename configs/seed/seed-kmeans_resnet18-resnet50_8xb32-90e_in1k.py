"""Strategy study, k-means: linear top-1 51.0 in the paper.

Clusters of the teacher's features as labels: CC under a MoCo-v2 teacher.
Lists by `tools/dataset_converters/pseudo_labels.py --clusters 2000`.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = '../baselines/cc_resnet18-swav-resnet50_8xb32-90e_in1k.py'

lists = 'meta/mocov2-200e-resnet50_k2000'
train_dataloader = dict(dataset=dict(ann_file=lists + '/train.txt'))
val_dataloader = dict(dataset=dict(ann_file=lists + '/val.txt'))
