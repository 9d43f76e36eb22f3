"""Losses: pure functions and their thin modules. They know torch, not networks, data or stages."""

from castkd.losses.contrastive import InstancePixelContrast, instance_pixel_contrast
from castkd.losses.cross_entropy import OHEMCrossEntropy, ohem_cross_entropy, pixel_cross_entropy
from castkd.losses.mgd import (
    ImageSemanticLoss,
    RegionContentLoss,
    image_semantic_loss,
    region_content_loss,
)
from castkd.losses.sampling import debias_weights

__all__ = [
    'ImageSemanticLoss',
    'InstancePixelContrast',
    'OHEMCrossEntropy',
    'RegionContentLoss',
    'debias_weights',
    'image_semantic_loss',
    'instance_pixel_contrast',
    'ohem_cross_entropy',
    'pixel_cross_entropy',
    'region_content_loss',
]
