# The teacher on labels alone, half as long ("1x").
_base_ = './supervised.py'

model = dict(student=dict(_delete_=True, **_base_.big))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[60_000, 80_000]),
]
train_cfg = dict(max_iters=90_000)
