"""CompRess with two queues and no momentum student.

bash tools/dist_train.sh THIS_FILE 8
"""

_base_ = 'compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k.py'

model = dict(heads=dict(similarity=dict(student_queue='student')))
