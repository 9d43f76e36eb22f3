"""Logits and labels per pixel of the network's input, which several objectives of segmentors need."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def full_size(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Resize logits (B, C, h, w) to the pixels of the input (B, C, H, W), bilinear.

    Args:
        logits: What a decode head gives at its own stride.
        size: (H, W).
        align_corners: As the decode head has it.
    """
    # As single-channel images: with many channels torch takes a path that is ten times slower on CPU.
    single = logits.flatten(0, 1).unsqueeze(1)
    resized = F.interpolate(single, size=size, mode='bilinear', align_corners=align_corners)
    return resized.squeeze(1).unflatten(0, logits.shape[:2])


@torch.no_grad()
def hard_labels(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the most likely class per pixel of the input, (B, H, W) int64, of logits (B, C, h, w)."""
    return full_size(logits, size, align_corners).argmax(dim=1)
