"""SOLOv2's head with mask targets that say how much of a feature pixel an object covers."""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.dense_heads import SOLOV2Head
from mmengine.structures import InstanceData
from torch import Tensor

from castkd.registry import MODELS


@MODELS.register_module()
class AreaSOLOV2Head(SOLOV2Head):
    """mmdet's head, taught the covered area of each pixel of the mask features in place of yes or no (ours).

    Of the 4 x 4 image pixels below a feature pixel, mmdet's targets look at the inner four, and round. For an object of
    ten pixels that is a tenth of its area, and finer masks of a teacher are rounded to the same targets as coarse ones.
    Areas keep their contours: masks are enlarged bilinearly before they are thresholded. The Dice loss of squares has
    its minimum at any target. In training alone: weights and predictions are those of mmdet's head, which takes this
    one's place in an exported student. Targets are made at full size first: 4 bytes per pixel of the image and positive
    cell of a level, which is much for images of megapixels.

    Arguments are mmdet's.
    """

    def _get_targets_single(
        self, gt_instances: InstanceData, featmap_sizes: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[list[int]]]:
        """Return what mmdet's does, masks as float areas from 0 to 1, (positive cells, h, w) per level."""
        stride = self.mask_stride
        # With a stride of 1 mmdet leaves masks as they are; the grid depends on the product of stride and size alone.
        self.mask_stride = 1
        try:
            masks, *others = super()._get_targets_single(
                gt_instances, [size * stride for size in featmap_sizes]
            )
        finally:
            self.mask_stride = stride
        return [_areas(level, stride) for level in masks], *others


def _areas(masks: Tensor, stride: int) -> Tensor:
    blocks = masks.float().unflatten(-1, (-1, stride)).unflatten(-3, (-1, stride))
    return blocks.mean(dim=(-3, -1))
