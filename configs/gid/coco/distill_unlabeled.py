# The student by GID on labelled and unlabelled images, as many of each, with the teacher's labels on the latter (an
# extension of the paper).
_base_ = ['./base.py', '../../_base_/methods/gid_pseudo_label.py']

model = dict(student=_base_.network, classes=_base_.classes, teachers=dict(big=_base_.big_teacher))
