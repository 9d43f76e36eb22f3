# The student by cross pseudo supervision with its like, as the teachers are trained: no teacher.
_base_ = './base_cps.py'

model = dict(student=_base_.student, peers=dict(second=_base_.student))
