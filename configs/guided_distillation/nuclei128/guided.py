# Guided Distillation, phases 1 and 2, on microscopy nuclei: views as in the authors' code, burn-in
# half of the run. The decay is 0.99 instead of 0.9996, in proportion to the length of the run (they
# train 90 000 iterations).
_base_ = [
    '../../cast/nuclei128/base.py',
    '../../_base_/methods/guided_distillation.py',
]

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        ema=dict(
            decay=0.99,
            burn_in=1500,
            checkpoint='work_dirs/gd_nuclei128_2pct/supervised/iter_3000.pth',
        )
    ),
)
# A head without queries: its predictions are filtered, with the rule of the label files.
model['pseudo_labeler'] = dict(
    _delete_=True,
    type='castkd.InstancePseudoLabeler',
    score_thr=0.3,
    overlap='score',
    min_kept=0.5,
)
strong_view = [
    dict(
        type='castkd.StrongPhotometric',
        jitter_prob=0.8,
        gray_prob=0.2,
        blur_prob=0.5,
        blur_kernel=None,
    ),
    _base_.pack,
]
unlabeled_pipeline = [
    *_base_.load_unlabeled,
    *_base_.augmentation,
    dict(
        type='mmdet.MultiBranch',
        branch_field=_base_.branch_field,
        unsup_teacher=[_base_.pack],
        unsup_student=strong_view,
    ),
]
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(pipeline=unlabeled_pipeline))))
train_cfg = dict(max_iters=3000)
