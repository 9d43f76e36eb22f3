# GID (Dai et al., CVPR 2021) on COCO, extended to Mask R-CNN, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_mask_rcnn_coco.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import mask_rcnn

folder = 'coco'
network = mask_rcnn(80, pretrained='torchvision://resnet50')
big = mask_rcnn(80, depth=101, pretrained='torchvision://resnet101')
fraction = 1.0
lr = 0.02
metric = ['bbox', 'segm']
