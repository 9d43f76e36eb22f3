# CAST stage 1a: the teacher on the labelled scenes, with the contrastive term.
_base_ = ['./base.py', '../../_base_/methods/cast_labeled.py']

model = dict(
    student=_base_.teacher,
    classes=_base_.classes,
    objectives=dict(
        cast=dict(
            feature=_base_.feature, queries=_base_.queries, projector=_base_.teacher_projector
        )
    ),
)
train_dataloader = dict(
    batch_sampler=dict(counts=dict(_delete_=True, labeled=4)),
    dataset=dict(sources=dict(_delete_=True, labeled=_base_.labeled_dataset)),
)
train_cfg = dict(max_iters=300)
