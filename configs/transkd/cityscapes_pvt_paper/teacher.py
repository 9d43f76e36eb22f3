# The teacher on the labels.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.teacher, classes=_base_.classes)
