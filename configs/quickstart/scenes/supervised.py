# The student on the labelled scenes alone, with as many iterations as stages 2 and 3 together.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']
from castkd.data_configs import labeled_only

model = dict(student=_base_.student, classes=_base_.classes)
train_dataloader = labeled_only(_base_.labeled_dataset, 4)
train_cfg = dict(max_iters=800)
