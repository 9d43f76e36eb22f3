# The student on the labels alone: the baseline, with the schedule of LAD's stage 2.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.network, classes=_base_.classes)
