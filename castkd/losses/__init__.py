"""Losses: pure functions and their thin modules. They know torch, not networks, data or stages."""

from castkd.losses.contrastive import InstancePixelContrast, instance_pixel_contrast
from castkd.losses.sampling import debias_weights

__all__ = ['InstancePixelContrast', 'debias_weights', 'instance_pixel_contrast']
