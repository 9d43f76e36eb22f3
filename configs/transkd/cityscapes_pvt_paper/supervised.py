# The student on the labels alone: the baseline, with the schedule of the distilled ones.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.student, classes=_base_.classes)
