# GID (Dai et al., CVPR 2021) on COCO, RetinaNet, ResNet-101 to MobileNetV2, 16 images a step:
#   python tools/train.py configs/gid/gid_retinanet_mobilenet_coco.py
_base_ = '../_base_/recipes/gid.py'

folder = 'coco/retinanet_mobilenet'
fraction = 1.0
