# The teacher on labels alone, as long as the student.
_base_ = ['./base.py', '../../../_base_/methods/supervised.py']

model = dict(student=_base_.teacher, classes=_base_.classes)
