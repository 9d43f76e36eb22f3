"""Builders of plain mm model configs, so that a recipe names sizes instead of repeating a hundred lines."""

from castkd.architectures.deeplab import BACKBONES, deeplabv3plus
from castkd.architectures.instance import mask2former, solov2
from castkd.architectures.semantic import HEADS, label_assisted, resnet_segmentor, stdc
from castkd.architectures.transformers import pvt_v2_fpn, segformer, stage_channels

__all__ = [
    'BACKBONES',
    'HEADS',
    'deeplabv3plus',
    'label_assisted',
    'mask2former',
    'pvt_v2_fpn',
    'resnet_segmentor',
    'segformer',
    'solov2',
    'stage_channels',
    'stdc',
]
