"""DisCo, Table 1: linear top-1 60.6 in the paper.

Takes `work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth`.
Recipe of MoCo-v2. What the published code does and the paper does not say:

* it sums the squared errors over the images of a process: weight 32 here,
  whatever the number of processes;
* it leaves the teacher in training mode: see disco-published_*.py;
* it starts with the teacher's queue of keys; here keys are the momentum
  student's from the first on.

    bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = [
    '../_base_/models/disco_resnet18-resnet50.py',
    '../_base_/datasets/imagenet_mocov2_2x224.py',
    '../_base_/schedules/mocov2_sgd_coslr_200e.py',
    '../_base_/default_runtime.py',
]

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k'
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=dict(checkpoint=teacher_run + '/epoch_200.pth'),
)
# batch norm by process, keys of shuffled images
sync_bn = None
