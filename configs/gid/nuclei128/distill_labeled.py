# The student by GID on labelled tiles alone, as in the paper.
_base_ = ['./base.py', '../../_base_/methods/gid.py']
from castkd.data_configs import labeled_only

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    teachers=dict(big=_base_.big_teacher),
    objectives=dict(gid=_base_.gid),
)
train_dataloader = labeled_only(_base_.labeled_dataset, 8)
