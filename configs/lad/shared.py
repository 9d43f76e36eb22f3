# What LAD's stages share on GPUs. The network is the one that the authors train on VOC, here with the classes of
# Cityscapes; a data set sets its own, and the recipes put other networks in its place.
_base_ = ['../_base_/runtime/semantic.py', '../_base_/schedules/sgd_poly_40k.py']

from castkd.architectures import label_assisted, resnet_segmentor

# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network = resnet_segmentor(
    19, 'deeplabv3', deep_stem=True, dropout=0.01, pretrained='open-mmlab://resnet18_v1c'
)
twin = label_assisted(network)
sync_bn = 'torch'  # between processes
