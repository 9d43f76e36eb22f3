# GID (Dai et al., CVPR 2021) on Pascal VOC 2007 and 2012, Faster R-CNN, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_faster_rcnn_voc.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import faster_rcnn

folder = 'voc'
network = faster_rcnn(20, pretrained='torchvision://resnet50')
big = faster_rcnn(20, depth=101, pretrained='torchvision://resnet101')
fraction = 1.0
lr = 0.02
metric = 'mAP'
