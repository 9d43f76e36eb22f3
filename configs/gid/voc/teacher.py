# The teacher on labels alone, as long as the student.
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.big))
