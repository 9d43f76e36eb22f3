"""Transforms of images and labels."""

from castkd.datasets.transforms.cropping import RandomCrop
from castkd.datasets.transforms.geometry import (
    relative_homography,
    warp_boxes,
    warp_masks,
    warp_semantic,
)
from castkd.datasets.transforms.label_noise import LabelNoise
from castkd.datasets.transforms.label_stride import LabelsAtStride
from castkd.datasets.transforms.photometric import StrongPhotometric
from castkd.datasets.transforms.resizing import Resize, ResizeShortestEdge

__all__ = [
    'LabelNoise',
    'LabelsAtStride',
    'RandomCrop',
    'Resize',
    'ResizeShortestEdge',
    'StrongPhotometric',
    'relative_homography',
    'warp_boxes',
    'warp_masks',
    'warp_semantic',
]
