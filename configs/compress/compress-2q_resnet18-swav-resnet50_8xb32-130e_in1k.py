"""CompRess with two queues, OSS Table 1: linear top-1 62.4 in the paper.

The queue of the student is filled by its momentum average.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k.py'

model = dict(
    momentum=dict(decay=0.999, shuffle=False),
    heads=dict(similarity=dict(student_queue='momentum')),
)
