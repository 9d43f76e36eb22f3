# The student by GID on labelled and unlabelled tiles, with the teacher's labels on the latter.
_base_ = ['./base.py', '../../_base_/methods/gid_pseudo_label.py']

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    teachers=dict(big=_base_.big_teacher),
    objectives=dict(gid=_base_.gid),
)
