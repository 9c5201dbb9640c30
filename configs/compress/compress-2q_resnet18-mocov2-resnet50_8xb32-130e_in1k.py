"""CompRess with two queues under MoCo-v2: 61.7 in its code's README.

Which of 1q and 2q that number is of, the README does not say.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'compress-2q_resnet18-swav-resnet50_8xb32-130e_in1k.py'

teacher_run = 'work_dirs/mocov2_resnet50_8xb32-coslr-800e_in1k'
model = dict(teacher=dict(checkpoint=teacher_run + '/epoch_800.pth'))
