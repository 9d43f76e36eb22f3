# LAD on ADE20K with DeepLabV3-ResNet18, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_deeplabv3_ade20k.py
# The paper has it; its number could not be read.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'ade20k'
# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network = resnet_segmentor(
    150,
    'deeplabv3',
    deep_stem=True,
    dropout=0.01,
    pretrained='open-mmlab://resnet18_v1c',
)
# The fixed values of 151 classes would lie closer together than the noise of a pixel.
twin = label_assisted(network, mode='random')
