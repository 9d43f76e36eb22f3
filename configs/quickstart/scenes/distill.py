# CAST stage 2: the student on labels and the pseudo-labels of the adapted teacher, with the contrastive term.
_base_ = './self_train.py'

model = dict(
    student=dict(_delete_=True, **_base_.student),
    objectives=dict(cast=dict(projector=_base_.student_projector)),
)
train_cfg = dict(max_iters=600)
