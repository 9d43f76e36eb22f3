# The teacher on the labelled tiles alone, as the student beside it but for twice as many steps.
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.teacher))
train_cfg = dict(max_iters=2400)
