# LAD on VOC 2012 aug with FCN-ResNet18, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_fcn_voc2012aug.py
# The paper has it; its number could not be read.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'voc2012aug'
network = resnet_segmentor(21, 'fcn', deep_stem=True, pretrained='open-mmlab://resnet18_v1c')
twin = label_assisted(network)
