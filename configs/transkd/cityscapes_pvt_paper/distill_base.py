# The student on labels and by TransKD-Base.
_base_ = ['./base.py', '../../_base_/methods/transkd_base.py']

model = dict(
    student=_base_.student,
    teachers=dict(big=dict(model=_base_.teacher, checkpoint=_base_.teacher_file)),
    classes=_base_.classes,
)
