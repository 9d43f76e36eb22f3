# GID (Dai et al., CVPR 2021) on COCO, RetinaNet, ResNet-101 to MobileNetV2, 16 images a step:
#   python tools/train.py configs/gid/gid_retinanet_mobilenet_coco.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import mobilenet_retinanet, retinanet

folder = 'coco'
network = mobilenet_retinanet(80, pretrained='open-mmlab://mmdet/mobilenet_v2')
# The paper does not say which teacher its MobileNetV2 had.
big = retinanet(80, depth=101, pretrained='torchvision://resnet101')
fraction = 1.0
