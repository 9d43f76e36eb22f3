# The teacher on the labelled tiles alone, as the student beside it.
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.teacher))
