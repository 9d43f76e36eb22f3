"""Builders of plain mm model configs, so that a recipe names sizes instead of repeating a hundred lines."""

from castkd.architectures.deeplab import BACKBONES, deeplabv3plus
from castkd.architectures.dinov2 import dinov2_mask2former
from castkd.architectures.foundation import (
    FOUNDATION_FEATURE,
    FOUNDATION_LAYERS,
    MMDET_FOUNDATION_FEATURE,
    foundation_segmentor,
)
from castkd.architectures.instance import mask2former, solov2
from castkd.architectures.parts import pixel_loss
from castkd.architectures.semantic import HEADS, label_assisted, resnet_segmentor, stdc
from castkd.architectures.single_stage import (
    atss,
    fcos,
    gfl,
    mobilenet_retinanet,
    retinanet,
)
from castkd.architectures.transformers import pvt_v2_fpn, segformer, stage_channels
from castkd.architectures.two_stage import faster_rcnn, mask_rcnn

__all__ = [
    'BACKBONES',
    'FOUNDATION_FEATURE',
    'FOUNDATION_LAYERS',
    'HEADS',
    'MMDET_FOUNDATION_FEATURE',
    'atss',
    'deeplabv3plus',
    'dinov2_mask2former',
    'faster_rcnn',
    'fcos',
    'foundation_segmentor',
    'gfl',
    'label_assisted',
    'mask2former',
    'mask_rcnn',
    'mobilenet_retinanet',
    'pixel_loss',
    'pvt_v2_fpn',
    'resnet_segmentor',
    'retinanet',
    'segformer',
    'solov2',
    'stage_channels',
    'stdc',
]
