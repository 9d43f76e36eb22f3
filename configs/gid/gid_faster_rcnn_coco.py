# GID (Dai et al., CVPR 2021) on COCO, Faster R-CNN, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_faster_rcnn_coco.py
_base_ = '../_base_/recipes/gid.py'

folder = 'coco/faster_rcnn'
fraction = 1.0
