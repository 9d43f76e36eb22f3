"""Resizing that leaves labels where their image is."""

from __future__ import annotations

import cv2
import numpy as np
from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.datasets.transforms import ResizeShortestEdge as MMDetResizeShortestEdge
from mmdet.structures.mask import BitmapMasks

from castkd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Resize(MMDetResize):
    """mmdet's ``Resize`` with instance masks and label maps that are read at the centres of the new pixels.

    mmdet reads the image at the centres and labels at the upper left corners: they move by half a pixel against each
    other, as much as a tenth of the area of an object ten pixels wide. Where a new centre is a corner of old pixels, as
    when an image is halved, the one to the lower right is read. Options are those of mmdet's transform.
    """

    def _resize_masks(self, results: dict) -> None:
        masks, shape = results.get('gt_masks'), results['img_shape']
        if isinstance(masks, BitmapMasks):
            results['gt_masks'] = BitmapMasks([_resized(mask, shape) for mask in masks], *shape)
        elif masks is not None:
            results['gt_masks'] = masks.resize(shape)

    def _resize_seg(self, results: dict) -> None:
        if results.get('gt_seg_map') is not None:
            results['gt_seg_map'] = _resized(results['gt_seg_map'], results['img_shape'])


def _resized(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


@TRANSFORMS.register_module()
class ResizeShortestEdge(MMDetResizeShortestEdge):
    """mmdet's ``ResizeShortestEdge`` with :class:`Resize`.

    Args:
        scale: Length of the shorter side in pixels.
        max_size: The longer side is at most this long; None sets no limit.
    """

    def __init__(self, scale: int | tuple[int, int], max_size: int | None = None) -> None:
        super().__init__(scale, max_size, resize_type='castkd.Resize')
