# The student by GID on labelled images, as in the paper.
_base_ = ['./base.py', '../../_base_/methods/gid.py']

model = dict(student=_base_.network, classes=_base_.classes, teachers=dict(big=_base_.big_teacher))
