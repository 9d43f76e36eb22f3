"""Backbones that mmseg and mmdet do not have."""

from castkd.backbones.wide_resnet import WideResNet

__all__ = ['WideResNet']
