# LAD on VOC 2012 aug with PSPNet-ResNet18, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_pspnet_voc2012aug.py
# The authors' numbers: 73.3 mIoU without, 75.4 with LAD.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'voc2012aug'
network = resnet_segmentor(21, 'pspnet', deep_stem=True, pretrained='open-mmlab://resnet18_v1c')
twin = label_assisted(network)
