# Two networks of one form that label for each other in the second half of a training.
_base_ = ['./base.py', '../../_base_/methods/cps_late.py']

model = dict(classes=_base_.classes)
