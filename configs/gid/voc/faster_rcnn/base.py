# Faster R-CNN, ResNet-101 to ResNet-50.
_base_ = '../base.py'
from castkd.architectures import faster_rcnn

student = faster_rcnn(len(_base_.classes), pretrained='torchvision://resnet50')
teacher = faster_rcnn(len(_base_.classes), depth=101, pretrained='torchvision://resnet101')

optim_wrapper = dict(optimizer=dict(lr=0.02))
