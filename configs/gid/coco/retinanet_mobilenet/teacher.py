# The teacher of the larger student: ResNet-101 on labels alone, half as long ("1x").
_base_ = '../retinanet/teacher.py'
