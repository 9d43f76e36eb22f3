# GID (Dai et al., CVPR 2021) on COCO, extended to Mask R-CNN, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_mask_rcnn_coco.py
_base_ = '../_base_/recipes/gid.py'

folder = 'coco/mask_rcnn'
fraction = 1.0
