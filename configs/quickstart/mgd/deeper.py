# The deeper teacher by cross pseudo supervision.
_base_ = './base_cps.py'

model = dict(student=_base_.deeper, peers=dict(second=_base_.deeper))
