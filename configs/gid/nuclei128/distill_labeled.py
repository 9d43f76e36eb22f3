# The student by GID on labelled tiles alone, as in the paper.
_base_ = './distill.py'
from castkd.data_configs import labeled_only

model = dict(objectives=dict(gid=dict(unlabeled_views=[])))
train_dataloader = labeled_only(_base_.labeled_dataset, 8)
