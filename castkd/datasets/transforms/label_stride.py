"""Label maps on the grid of a network's logits."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from castkd.checks import check_number
from castkd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LabelsAtStride(BaseTransform):
    """Reduce label maps to the grid of logits of some stride, and have predictions compared there.

    mmseg enlarges logits to the label map in the loss, and to ``ori_shape`` in prediction. Behind this transform both
    are the grid of the logits, ceil(side / stride), so that nothing is enlarged: the protocol of TransKD's published
    code, whose mIoU is that of maps of a quarter of the image's side. It comes after the transforms that move pixels
    and after the label map is loaded.

    Reads ``img_shape`` and, where there are some, the maps (H, W) of ``seg_fields``, of the image's size or of another;
    each pixel takes the label at its centre. Sets ``ori_shape`` and ``pad_shape``. The images of a batch must have one
    size. When files are labelled, and in an exported student, this step is left out: predictions have the size of the
    image.

    Args:
        stride: Pixels of the image per pixel of the logits and side, at least 1.

    Attributes:
        labels_only: True: this transform has no part in what a network sees.

    Raises:
        ConfigError: When ``stride`` is no positive integer.
    """

    labels_only = True

    def __init__(self, stride: int = 4) -> None:
        check_number('LabelsAtStride', 'stride', stride, low=1, integer=True)
        self.stride = stride

    def transform(self, results: dict) -> dict:
        """Reduce the label maps of one image."""
        grid = tuple(-(-side // self.stride) for side in results['img_shape'][:2])
        for name in results.get('seg_fields', ()):
            rows, columns = map(_centres, grid, results[name].shape)
            results[name] = results[name][rows[:, None], columns]
        results['ori_shape'] = results['pad_shape'] = grid
        return results

    def __repr__(self) -> str:
        """Show the stride."""
        return f'LabelsAtStride(stride={self.stride})'


def _centres(cells: int, length: int) -> np.ndarray:
    """Return the pixels of ``length`` under the centres of ``cells`` equal parts."""
    return ((np.arange(cells) + 0.5) * length / cells).astype(int)
