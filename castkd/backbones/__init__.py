"""Backbones that mmseg and mmdet do not have."""

from importlib.util import find_spec

from castkd.backbones.dinov2 import DINOv2Backbone

__all__ = ['DINOv2Backbone']

# Extends mmseg's backbone; detection does without mmseg.
if find_spec('mmseg'):
    from castkd.backbones.wide_resnet import WideResNet

    __all__ += ['WideResNet']
