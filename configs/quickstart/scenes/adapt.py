# CAST stage 1a: the teacher on the labelled scenes, with the contrastive term.
_base_ = ['./base.py', '../../_base_/methods/cast_labeled.py']
from castkd.data_configs import labeled_only

model = dict(
    student=_base_.teacher,
    classes=_base_.classes,
    objectives=dict(
        cast=dict(
            feature=_base_.feature, queries=_base_.queries, projector=_base_.teacher_projector
        )
    ),
)
train_dataloader = labeled_only(_base_.labeled_dataset, 4)
train_cfg = dict(max_iters=800)
