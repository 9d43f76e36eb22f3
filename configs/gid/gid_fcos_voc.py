# GID (Dai et al., CVPR 2021) on Pascal VOC 2007 and 2012, FCOS with the later improvements, ResNet-101 to ResNet-50,
# 16 images a step:
#   python tools/train.py configs/gid/gid_fcos_voc.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import fcos

folder = 'voc'
network = fcos(20, pretrained='torchvision://resnet50')
big = fcos(20, depth=101, pretrained='torchvision://resnet101')
fraction = 1.0
metric = 'mAP'
