# GID (Dai et al., CVPR 2021) on COCO, RetinaNet, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_retinanet_coco.py
_base_ = ['../_base_/recipes/gid.py', 'coco/retinanet.py']

folder = 'coco'
fraction = 1.0
