# The student on labels and by TransKD-EA.
_base_ = ['./base.py', '../../_base_/methods/transkd_ea.py']

model = dict(
    student=_base_.student,
    teachers=dict(big=dict(model=_base_.teacher, checkpoint=_base_.teacher_file)),
    classes=_base_.classes,
)
