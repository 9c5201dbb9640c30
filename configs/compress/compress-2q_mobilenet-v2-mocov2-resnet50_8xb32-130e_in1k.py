"""CompRess with two queues, OSS Table 5: linear top-1 65.8 in the paper.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'compress-1q_mobilenet-v2-mocov2-resnet50_8xb32-130e_in1k.py'

model = dict(
    momentum=dict(decay=0.999, shuffle=False),
    heads=dict(similarity=dict(student_queue='momentum')),
)
