# GID (Dai et al., CVPR 2021) on Pascal VOC 2007 and 2012, RetinaNet, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_retinanet_voc.py
_base_ = ['../_base_/recipes/gid.py', 'voc/retinanet.py']

folder = 'voc'
fraction = 1.0
metric = 'mAP'
