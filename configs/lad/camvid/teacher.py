# LAD stage 1: the student's twin with the labels as a fourth channel.
_base_ = ['./base.py', '../../_base_/methods/lad_teacher.py']

model = dict(student=_base_.twin, classes=_base_.classes)
