# The student by cross pseudo supervision with its like, as the teachers are trained: no teacher.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    student=_base_.student,
    peers=dict(second=_base_.student),
    classes=_base_.classes,
    objectives=dict(cps=_base_.late_cps),
)
