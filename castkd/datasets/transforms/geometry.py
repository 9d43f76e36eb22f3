"""Boxes, masks and semantic maps carried from one view of an image to another by the homography.

A homography maps source pixels to destination pixels, as mmdet's transforms record it in
``homography_matrix``. Coordinates are those of boxes: pixel (row r, column c) covers
[c, c + 1) x [r, r + 1), so its centre is (c + 0.5, r + 0.5).
"""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures.bbox import bbox_project
from mmengine.structures import BaseDataElement
from torch import Tensor

from castkd.errors import ConfigError


def relative_homography(source: BaseDataElement, dest: BaseDataElement) -> Tensor:
    """Return the homography from one view's input pixels to another's.

    Args:
        source: Data sample of the view to start from.
        dest: Data sample of the view to arrive in; another view of the same image.

    Returns:
        Matrix (3, 3), float64: that of ``dest`` times the inverse of that of ``source``; exactly the identity for views
        that share their pixel grid.

    Raises:
        ConfigError: When a sample does not carry its ``homography_matrix``.
    """
    start, end = _homography(source), _homography(dest)
    if torch.equal(start, end):
        return torch.eye(3, dtype=torch.float64)
    return end @ torch.linalg.inv(start)


def _homography(sample: BaseDataElement) -> Tensor:
    matrix = sample.metainfo.get('homography_matrix')
    if matrix is None:
        raise ConfigError(
            f'view of image {sample.metainfo.get("img_path")!r} has no homography_matrix; load with '
            'castkd.LoadImage, which begins the record, and name it in meta_keys of PackDetInputs'
        )
    return torch.as_tensor(np.asarray(matrix), dtype=torch.float64)


def warp_boxes(boxes: Tensor, matrix: Tensor, shape: tuple[int, int]) -> Tensor:
    """Carry boxes, clipped to the destination.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2.
        matrix: Homography (3, 3).
        shape: Height and width of the destination.

    Returns:
        Axis-aligned hulls (N, 4) of the carried boxes, in the dtype and on the device of ``boxes``.
    """
    matrix = matrix.to(boxes.device, torch.float64)
    return bbox_project(boxes.double(), matrix, tuple(shape)).to(boxes.dtype)


def warp_masks(masks: Tensor, matrix: Tensor, out_shape: tuple[int, int]) -> Tensor:
    """Carry instance masks with nearest sampling at pixel centres.

    Args:
        masks: (N, H, W), bool.
        matrix: Homography (3, 3).
        out_shape: Height and width of the destination.

    Returns:
        Masks (N, *out_shape), bool; False where the source has no pixel.
    """
    return _sample(masks, matrix, out_shape, False)


def warp_semantic(
    semantic_map: Tensor, matrix: Tensor, out_shape: tuple[int, int], fill: int = 255
) -> Tensor:
    """Carry a map of class indices with nearest sampling at pixel centres.

    Args:
        semantic_map: (H, W), integer.
        matrix: Homography (3, 3).
        out_shape: Height and width of the destination.
        fill: Class index where the source has no pixel.

    Returns:
        Map (*out_shape) of the same dtype.
    """
    return _sample(semantic_map, matrix, out_shape, fill)


def _sample(values: Tensor, matrix: Tensor, out_shape: tuple[int, int], fill: int | bool) -> Tensor:
    """Sample (..., H, W) at the source position of every destination pixel's centre, into a new tensor."""
    height, width = values.shape[-2:]
    # Views that share their pixel grid, as CAST's do, need no search for positions.
    if (height, width) == tuple(out_shape) and torch.equal(matrix, torch.eye(3).to(matrix)):
        return values.clone()
    out_height, out_width = out_shape
    # float64: in float32 a centre near a pixel border may fall on its wrong side.
    inverse = torch.linalg.inv(matrix.to(values.device, torch.float64))
    rows = torch.arange(out_height, device=values.device, dtype=torch.float64) + 0.5
    columns = torch.arange(out_width, device=values.device, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(rows, columns, indexing='ij')
    source_x, source_y, depth = torch.einsum(
        'ij,jhw->ihw', inverse, torch.stack([x, y, torch.ones_like(x)])
    )
    in_front = depth > 0
    depth = torch.where(in_front, depth, 1.0)
    source_x, source_y = source_x / depth, source_y / depth
    inside = in_front & (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    source_x = source_x.clamp(0, width - 1).long()
    source_y = source_y.clamp(0, height - 1).long()
    return values[..., source_y, source_x].masked_fill(~inside, fill)
