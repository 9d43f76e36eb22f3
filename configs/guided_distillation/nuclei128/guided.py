# Guided Distillation, phases 1 and 2: a new student learns from the frozen teacher of phase 0; at the end of the burn-in the
# teacher becomes the student's exponential moving average. Views and filter are those of the authors' code; the decay is
# 0.9996 there, over 90 000 iterations.
_base_ = '../../cast/nuclei128/base.py'

burn_in = 900
model = dict(
    type='castkd.Distiller',
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        ema=dict(
            type='castkd.EMATeacher',
            decay=0.99,
            burn_in=burn_in,
            checkpoint='work_dirs/gd_nuclei128_2pct/supervised/iter_1800.pth',
        )
    ),
    pseudo_labeler=dict(type='castkd.QueryPseudoLabeler', score_thr=0.7, min_soft_area=5.0),
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        unsup=dict(type='castkd.PseudoLabel', teacher='ema', weight=2.0),
    ),
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
    *_base_.geometry,
    dict(
        type='mmdet.MultiBranch',
        branch_field=_base_.branch_field,
        unsup_teacher=[_base_.pack],
        unsup_student=strong_view,
    ),
]
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(pipeline=unlabeled_pipeline))))
train_cfg = dict(max_iters=1800)
