# CAST stage 1a: the teacher on the labelled tiles, with the contrastive term.
_base_ = ['./teacher.py', '../../_base_/methods/cast_labeled.py']

model = dict(
    student=_base_.teacher, classes=_base_.classes, objectives=dict(cast=dict(_base_.contrast))
)
train_dataloader = dict(
    batch_sampler=dict(counts=dict(_delete_=True, labeled=8)),
    dataset=dict(sources=dict(_delete_=True, labeled=_base_.labeled_dataset)),
)
train_cfg = dict(max_iters=1000)
