"""What a detector says of given boxes: pooled features, and the answers of its RoI heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.registry import build_model

# 112 pixels at stride 8, 56 at stride 4: the rule of FPN that a box of 224 pixels belongs to P4.
_FINEST_SCALE = 14


def rois_of(boxes: Sequence[Tensor]) -> Tensor:
    """Return boxes (k_n, 4) of every image as one tensor (G, 5) whose first column is the image."""
    return torch.cat(
        [
            torch.cat([values.new_full((len(values), 1), image), values], dim=1)
            for image, values in enumerate(boxes)
        ]
    )


def region_extractor(channels: int, strides: Sequence[int], size: int = 10) -> nn.Module:
    """Return mmdet's pooling of boxes from the level of a pyramid that fits their size.

    A box of side s goes to level floor(4 + log2(s / 224)) of those there are (Lin et al., CVPR 2017). RoIAlign is the
    aligned one, with 2 x 2 samples per cell.

    Args:
        channels: Channels of the pyramid.
        strides: Strides of its levels, fine to coarse, each twice the one before.
        size: Cells per side.
    """
    layer = {'type': 'RoIAlign', 'output_size': size, 'sampling_ratio': 2, 'aligned': True}
    return build_model(
        {
            'type': 'mmdet.SingleRoIExtractor',
            'roi_layer': layer,
            'out_channels': channels,
            'featmap_strides': list(strides),
            'finest_scale': _FINEST_SCALE * strides[0],
        }
    )


def pool_regions(maps: Sequence[Tensor], rois: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the features (G, C, 10, 10) of boxes, in float32.

    Args:
        maps: Levels (B, C, h, w) of a pyramid; those beyond ``strides`` are not used.
        rois: (G, 5), see :func:`rois_of`; no gradient flows to them. G may be 0, the result depends on the maps still.
        strides: Strides of the levels.
    """
    # In half precision, coordinates of a large image are whole pixels; and mmcv takes every map for a contiguous one.
    levels = [level.float().contiguous() for level in maps[: len(strides)]]
    return region_extractor(levels[0].shape[1], strides)(levels, rois)


def pooled_levels(network: nn.Module) -> int:
    """Return how many levels of its pyramid the RoI head of a two-stage detector pools from (P2 to P5 with FPN)."""
    extractor = network.roi_head.bbox_roi_extractor
    # A cascade has one per stage, all alike.
    return (extractor[0] if isinstance(extractor, nn.ModuleList) else extractor).num_inputs


class RegionHeads:
    """The second stage of a detector, asked about given boxes.

    Args:
        network: A two-stage detector.
        owner: Its name, for errors.
        scale: Factor of the network's images to those in whose pixels boxes are given.

    Raises:
        ConfigError: When its RoI head is of another kind.
    """

    heads = ('StandardRoIHead', 'DynamicRoIHead', 'PISARoIHead')

    def __init__(self, network: nn.Module, owner: str, scale: float = 1.0) -> None:
        roi_head = network.roi_head
        kind = type(roi_head).__name__
        box_head = getattr(roi_head, 'bbox_head', None)
        if kind not in self.heads or box_head.custom_activation:
            raise ConfigError(
                f'{owner}: its RoI head {kind} is not asked about boxes; one of {", ".join(self.heads)} with a plain '
                'softmax is. Set regions=False and mask_weight=0 to compare the proposals alone'
            )
        self.owner = owner
        self.roi_head = roi_head
        self.scale = scale

    @property
    def has_masks(self) -> bool:
        """Tell whether there is a mask head."""
        return self.roi_head.with_mask

    def geometry(self) -> dict[str, Any]:
        """Return by name what two networks must share so that their answers can be compared."""
        head = self.roi_head.bbox_head
        found = {
            'number of classes': head.num_classes,
            'box coder of the RoI head': (type(head.bbox_coder).__name__, vars(head.bbox_coder)),
            'mask head': self.has_masks,
        }
        if self.has_masks:
            found['size of the masks'] = self.roi_head.mask_roi_extractor.roi_layers[0].output_size
        return found

    @property
    def delta_beta(self) -> float:
        """Return the threshold of the head's smooth L1 loss of encoded boxes, 0 for another loss."""
        return float(getattr(self.roi_head.bbox_head.loss_bbox, 'beta', 0.0))

    def boxes(self, maps: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits (G, C + 1), background last, and encoded boxes (G, C or 1, 4)."""
        pooled = self._pooled(self.roi_head.bbox_roi_extractor, maps, rois)
        logits, deltas = self.roi_head.bbox_head(pooled)
        return logits, deltas.reshape(len(rois), -1, 4)

    def masks(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return mask logits (G, C or 1, h, w)."""
        return self.roi_head.mask_head(self._pooled(self.roi_head.mask_roi_extractor, maps, rois))

    def _pooled(self, extractor: nn.Module, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        own = torch.cat([rois[:, :1], rois[:, 1:] * self.scale], dim=1)
        pooled = extractor(maps[: extractor.num_inputs], own)
        return self.roi_head.shared_head(pooled) if self.roi_head.with_shared_head else pooled


def of_class(values: Tensor, classes: Tensor) -> Tensor:
    """Return the entry (G, ...) of each box's class from (G, C, ...), or the only one from (G, 1, ...)."""
    if values.shape[1] == 1:
        return values[:, 0]
    return values[torch.arange(len(values), device=values.device), classes]
