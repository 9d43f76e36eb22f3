# FCOS with the later improvements, ResNet-101 to ResNet-50.
_base_ = '../base.py'
from castkd.architectures import fcos

student = fcos(len(_base_.classes), pretrained='torchvision://resnet50')
teacher = fcos(len(_base_.classes), depth=101, pretrained='torchvision://resnet101')
