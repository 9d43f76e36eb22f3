# GID (Dai et al., CVPR 2021) on COCO, FCOS with the later improvements, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_fcos_coco.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import fcos

folder = 'coco'
network = fcos(80, pretrained='torchvision://resnet50')
big = fcos(80, depth=101, pretrained='torchvision://resnet101')
fraction = 1.0
