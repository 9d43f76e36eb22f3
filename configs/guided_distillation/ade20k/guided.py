# Guided Distillation, phases 1 and 2, of CAST's student on ADE20K instances: images per step and schedule are those of
# CAST's stage 2, burn-in and decay those of the authors' code.
_base_ = [
    '../../cast/ade20k/student.py',
    '../../_base_/methods/guided_distillation.py',
]
from castkd.data_configs import with_photometric

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        ema=dict(
            burn_in=50_000,
            checkpoint='work_dirs/gd_ade20k/supervised/iter_160000.pth',
        )
    ),
)
pipeline = with_photometric(_base_.unlabeled_pipeline, _base_.photometric)
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(pipeline=pipeline))))
