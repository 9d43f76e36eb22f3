# The networks of the RetinaNet recipes, and of a stage that is trained alone: ResNet-101 to ResNet-50.
_base_ = []  # without it mmengine takes a file with imports for one of its lazy configs
from castkd.architectures import retinanet

network = retinanet(20, pretrained='torchvision://resnet50')
big = retinanet(20, depth=101, pretrained='torchvision://resnet101')
