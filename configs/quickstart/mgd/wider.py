# The wider teacher by cross pseudo supervision.
_base_ = './base_cps.py'

model = dict(student=_base_.wider, peers=dict(second=_base_.wider))
