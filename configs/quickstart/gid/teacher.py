# The teacher on the labels alone.
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.big))
