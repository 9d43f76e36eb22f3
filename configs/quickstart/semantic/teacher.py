# The teacher on the labelled scenes.
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.teacher))
