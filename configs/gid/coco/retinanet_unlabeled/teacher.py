# As with all labels, on those of the split.
_base_ = '../retinanet/teacher.py'
