# The deeper teacher by cross pseudo supervision.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    student=_base_.deeper,
    peers=dict(second=_base_.deeper),
    classes=_base_.classes,
    objectives=dict(cps=_base_.late_cps),
)
