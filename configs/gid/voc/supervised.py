# The student on labels alone.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.network, classes=_base_.classes)
