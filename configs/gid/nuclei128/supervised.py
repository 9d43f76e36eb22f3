# The student on the labelled tiles alone: the baseline, with as many images a step as with GID.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']
from castkd.data_configs import labeled_only

model = dict(student=_base_.network, classes=_base_.classes)
train_dataloader = labeled_only(_base_.labeled_dataset, 8)
