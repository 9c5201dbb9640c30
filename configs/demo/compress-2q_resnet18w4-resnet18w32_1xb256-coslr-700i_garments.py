"""CompRess with two queues in miniature, under the OSS demo's teacher.

The student has a queue of its own, which its momentum average fills. Needs
the teacher that ``make demo`` trains.

    python tools/train.py THIS_FILE --amp
"""

_base_ = 'compress-1q_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

model = dict(
    # of 0.999 an average over most of so short a run would be left
    momentum=dict(decay=0.99, shuffle=False),
    heads=dict(similarity=dict(student_queue='momentum')),
)
