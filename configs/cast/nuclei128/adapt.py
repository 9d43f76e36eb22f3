# CAST stage 1a: the teacher on the labelled tiles, with the contrastive term.
_base_ = './base.py'

model = dict(
    type='castkd.Distiller',
    student=_base_.teacher,
    classes=_base_.classes,
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        cast=dict(
            **_base_.contrast,
            projector=_base_.teacher_projector,
            views=[('sup', 'sup_strong')],
        ),
    ),
)
train_dataloader = dict(batch_sampler=dict(counts=dict(labeled=8, unlabeled=0)))
train_cfg = dict(max_iters=1200)
