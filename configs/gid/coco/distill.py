# The student by GID on labelled images, as in the paper.
_base_ = ['./base.py', '../../_base_/methods/gid.py']
from castkd.data_configs import labeled_only

model = dict(student=_base_.network, classes=_base_.classes, teachers=dict(big=_base_.big_teacher))
train_dataloader = labeled_only(_base_.labeled_dataset, 16, split=False)
