# LAD on VOC 2012 aug with DeepLabV3-ResNet18, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_deeplabv3_voc2012aug.py
# The authors' numbers: 73.2 mIoU without, 75.0 with LAD.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'voc2012aug'
# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network = resnet_segmentor(
    21,
    'deeplabv3',
    deep_stem=True,
    dropout=0.01,
    pretrained='open-mmlab://resnet18_v1c',
)
twin = label_assisted(network)
