# The teacher on labels alone, half as long ("1x").
_base_ = ['./base.py', '../../../_base_/methods/supervised.py']
from castkd.data_configs import labeled_only

model = dict(student=_base_.teacher, classes=_base_.classes)
train_dataloader = labeled_only(_base_.labeled_dataset, 16)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[60_000, 80_000]),
]
train_cfg = dict(max_iters=90_000)
