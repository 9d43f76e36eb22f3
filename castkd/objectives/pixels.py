"""Labels per pixel of the network's input, which several objectives of segmentors need."""

from __future__ import annotations

import torch
from torch import Tensor

from castkd.losses.maps import resize_maps


@torch.no_grad()
def hard_labels(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the most likely class per pixel of the input.

    Args:
        logits: (B, C, h, w), what a decode head gives at its own stride.
        size: Height and width of the input.
        align_corners: How logits are resized; as the decode head has it.

    Returns:
        (B, H, W), int64.
    """
    return resize_maps(logits, size, align_corners).argmax(dim=1)
