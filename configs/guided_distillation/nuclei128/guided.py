# Guided Distillation, phases 1 and 2, on microscopy nuclei: views as in the authors' code, burn-in
# half of the run. The decay is 0.99 instead of 0.9996, in proportion to the length of the run (they
# train 90 000 iterations).
_base_ = [
    '../../cast/nuclei128/base.py',
    '../../_base_/methods/guided_distillation.py',
]
from castkd.data_configs import with_photometric

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
pipeline = with_photometric(_base_.unlabeled_pipeline, _base_.photometric)
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(pipeline=pipeline))))
train_cfg = dict(max_iters=3000)
