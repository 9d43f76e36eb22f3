# The wider teacher by cross pseudo supervision.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    student=_base_.wider,
    peers=dict(second=_base_.wider),
    classes=_base_.classes,
    objectives=dict(cps=_base_.late_cps),
)
