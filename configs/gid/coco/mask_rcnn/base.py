# Mask R-CNN (an extension of the paper), ResNet-101 to ResNet-50.
_base_ = '../base.py'
from castkd.architectures import mask_rcnn

student = mask_rcnn(len(_base_.classes), pretrained='torchvision://resnet50')
teacher = mask_rcnn(len(_base_.classes), depth=101, pretrained='torchvision://resnet101')

optim_wrapper = dict(optimizer=dict(lr=0.02))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
