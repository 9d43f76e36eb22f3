# CAST stage 1c: the teacher again from its first weights, on labels and the pseudo-labels of stage 1a.
_base_ = ['./base.py', '../../_base_/methods/cast.py']

model = dict(
    student=_base_.teacher,
    classes=_base_.classes,
    objectives=dict(
        cast=dict(
            feature=_base_.feature, queries=_base_.queries, projector=_base_.teacher_projector
        )
    ),
)
pseudo = dict(
    _base_.pseudo_dataset, ann_file='work_dirs/cast_scenes/label_adapted/annotations.json'
)
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(_delete_=True, **pseudo))))
train_cfg = dict(max_iters=800)
