"""Instance queries: the mask and class logits of a segmentor's candidates, whatever its head calls them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from castkd.checks import check_number
from castkd.registry import MODELS


class Queries(ABC):
    """Reads queries from the raw outputs of a head.

    A query is a candidate instance: mask logits over the image, and class logits whose last entry means "no object".
    """

    @property
    @abstractmethod
    def taps(self) -> tuple[str, ...]:
        """Taps of the head's outputs that are read."""

    @abstractmethod
    def __call__(self, taps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mask logits (B, K, H, W) and class logits (B, K, C + 1) from the tapped outputs of B images."""


@MODELS.register_module()
class SetPredictionQueries(Queries):
    """The queries of a MaskFormer-like head (Mask2Former), after its last layer.

    Args:
        head: Path of the head; its output is (class logits per layer, mask logits per layer).
    """

    def __init__(self, head: str = 'panoptic_head') -> None:
        self._cls_logits = f'{head}[0][-1]'
        self._mask_logits = f'{head}[1][-1]'

    @property
    def taps(self) -> tuple[str, ...]:
        """Return the taps of the last layer's class and mask logits."""
        return self._cls_logits, self._mask_logits

    def __call__(self, taps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both as they are."""
        return taps[self._mask_logits], taps[self._cls_logits]


@MODELS.register_module()
class GridQueries(Queries):
    """The best cells of a SOLOv2 head (Wang et al., NeurIPS 2020) as queries.

    Every cell of the grids predicts the kernel of a 1 x 1 convolution over shared mask features, and independent class
    scores. As class logits of a query serve those of its cell, and 0 for "no object": with one class, their softmax is
    the cell's own sigmoid.

    Args:
        levels: Number of grids of the head, at least 1.
        num_queries: Cells per image, those with the highest class score; at least 1.
        head: Path of the head; its output is (kernels per level, class logits per level, mask features).
    """

    def __init__(self, levels: int, num_queries: int = 100, head: str = 'mask_head') -> None:
        check_number('GridQueries', 'levels', levels, low=1, integer=True)
        check_number('GridQueries', 'num_queries', num_queries, low=1, integer=True)
        self.num_queries = num_queries
        self._kernels = [f'{head}[0][{level}]' for level in range(levels)]
        self._cls_logits = [f'{head}[1][{level}]' for level in range(levels)]
        self._features = f'{head}[2]'

    @property
    def taps(self) -> tuple[str, ...]:
        """Return the taps of all levels' kernels and class logits, and of the mask features."""
        return *self._kernels, *self._cls_logits, self._features

    def __call__(self, taps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mask and class logits of the best cells, best first."""
        kernels = torch.cat([taps[name].flatten(2) for name in self._kernels], dim=2)
        logits = torch.cat([taps[name].flatten(2) for name in self._cls_logits], dim=2)
        best = logits.amax(dim=1).topk(min(self.num_queries, logits.shape[2]), dim=1).indices
        chosen = kernels.gather(2, best[:, None].expand(-1, kernels.shape[1], -1))
        masks = torch.einsum('bdk,bdhw->bkhw', chosen, taps[self._features])
        classes = logits.gather(2, best[:, None].expand(-1, logits.shape[1], -1)).transpose(1, 2)
        return masks, F.pad(classes, (0, 1))


@MODELS.register_module()
class BoxQueries(Queries):
    """The best boxes of a detector without masks as queries, such as those of a foundation teacher.

    As mask logits serves how deep a pixel lies in the box: 4 at its centre, 0 on its border, down to -4 outside. As
    class logits serve those of the box, and 0 for "no object", see :class:`GridQueries`.

    Args:
        num_queries: Boxes per image, those with the highest class score; at least 1.
        size: Height and width of the grid that mask logits are given on.
        detector: Path of the module whose output is (class logits (B, Q, C), boxes (B, Q, 4) as centre and size in
            parts of the input's width and height).

    Raises:
        ConfigError: When a number is out of range.
    """

    def __init__(
        self,
        num_queries: int = 100,
        size: tuple[int, int] = (64, 64),
        detector: str = 'detector',
    ) -> None:
        check_number('BoxQueries', 'num_queries', num_queries, low=1, integer=True)
        for side in size:
            check_number('BoxQueries', 'size', side, low=1, integer=True)
        self.num_queries = num_queries
        self.size = tuple(size)
        self._cls_logits = f'{detector}[0]'
        self._boxes = f'{detector}[1]'

    @property
    def taps(self) -> tuple[str, ...]:
        """Return the taps of class logits and boxes."""
        return self._cls_logits, self._boxes

    def __call__(self, taps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mask and class logits of the best boxes, best first."""
        logits, boxes = taps[self._cls_logits], taps[self._boxes]
        best = logits.amax(dim=2).topk(min(self.num_queries, logits.shape[1]), dim=1).indices
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))[..., None]
        depths = []
        for axis, cells in ((1, self.size[0]), (0, self.size[1])):
            centres = (torch.arange(cells, device=boxes.device) + 0.5) / cells
            half = (boxes[:, :, axis + 2] / 2).clamp_min(1e-6)
            depths.append(1 - (centres - boxes[:, :, axis]).abs() / half)
        depth = torch.minimum(depths[0][..., :, None], depths[1][..., None, :])
        classes = logits.gather(1, best[..., None].expand(-1, -1, logits.shape[2]))
        return 4 * depth.clamp(-1, 1), F.pad(classes, (0, 1))
