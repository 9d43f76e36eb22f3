"""A random crop that keeps the record of the geometry."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from castkd.checks import check_number
from castkd.registry import TRANSFORMS
from castkd.semantic import IGNORE

_TRIES = 10


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """mmseg's ``RandomCrop``, which also carries ``homography_matrix`` on and takes images without labels.

    Reads and cuts ``img`` and every map of ``seg_fields``; sets ``img_shape``. An image that is smaller than the crop
    keeps its size. Randomness comes from numpy's global state, as in mm's own transforms.

    Args:
        crop_size: Height and width in pixels.
        cat_max_ratio: A crop of which one class covers this share or more of the labelled pixels is drawn again, up to
            10 times, in (0, 1]; 1 takes every crop. Without a label map there is nothing to look at.
    """

    def __init__(self, crop_size: tuple[int, int], cat_max_ratio: float = 1.0) -> None:
        super().__init__()
        owner = type(self).__name__
        for name, side in zip(('height', 'width'), crop_size, strict=True):
            check_number(owner, f'crop_size ({name})', side, low=1, integer=True)
        check_number(owner, 'cat_max_ratio', cat_max_ratio, low=0, low_open=True, high=1)
        self.crop_size = tuple(crop_size)
        self.cat_max_ratio = cat_max_ratio

    def transform(self, results: dict) -> dict:
        """Cut the image and its maps."""
        top, left = self._draw(results['img'].shape)
        labels = results.get('gt_seg_map')
        if labels is not None and self.cat_max_ratio < 1:
            for _ in range(_TRIES):
                if self._is_varied(self._cut(labels, top, left)):
                    break
                top, left = self._draw(results['img'].shape)
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = self._cut(results[key], top, left)
        results['img_shape'] = results['img'].shape[:2]
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], dtype=np.float32)
        results['homography_matrix'] = shift @ results.get('homography_matrix', np.eye(3))
        results['homography_matrix'] = results['homography_matrix'].astype(np.float32)
        return results

    def _draw(self, shape: tuple[int, ...]) -> tuple[int, int]:
        margins = (max(side - crop, 0) for side, crop in zip(shape, self.crop_size, strict=False))
        top, left = (int(np.random.randint(0, margin + 1)) for margin in margins)
        return top, left

    def _cut(self, pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        height, width = self.crop_size
        return pixels[top : top + height, left : left + width]

    def _is_varied(self, labels: np.ndarray) -> bool:
        counts = np.bincount(labels[labels != IGNORE])
        return np.count_nonzero(counts) > 1 and counts.max() < self.cat_max_ratio * counts.sum()

    def __repr__(self) -> str:
        """Return the options, as mm's transforms show theirs."""
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, cat_max_ratio={self.cat_max_ratio})'
        )
