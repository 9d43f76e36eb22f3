# CAST stage 2: the student on labels and the pseudo-labels of the adapted teacher, with the contrastive term.
_base_ = ['./base.py', '../../_base_/methods/cast.py']

model = dict(
    student=_base_.student, classes=_base_.classes, objectives=dict(cast=dict(_base_.contrast))
)
pseudo = dict(
    _base_.pseudo_dataset,
    ann_file='work_dirs/cast_nuclei128_2pct/label_self_trained/annotations.json',
)
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(_delete_=True, **pseudo))))
train_cfg = dict(max_iters=2400)
