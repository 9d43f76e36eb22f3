# CAST stage 1a: the teacher on the labelled tiles, with the contrastive term.
_base_ = ['./teacher.py', '../../_base_/methods/cast_labeled.py']
from castkd.data_configs import labeled_only

model = dict(
    student=_base_.teacher, classes=_base_.classes, objectives=dict(cast=dict(_base_.contrast))
)
train_dataloader = labeled_only(_base_.labeled_dataset, 8)
train_cfg = dict(max_iters=1000)
