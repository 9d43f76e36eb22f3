# RetinaNet, ResNet-101 to ResNet-50.
_base_ = '../base.py'
from castkd.architectures import retinanet

student = retinanet(len(_base_.classes), pretrained='torchvision://resnet50')
teacher = retinanet(len(_base_.classes), depth=101, pretrained='torchvision://resnet101')
