"""What is kept of a teacher's instances as pseudo-labels, in a step and for a file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from castkd.checks import check_choice, check_number

OVERLAPS = ('score', 'area', 'keep')


@dataclass(frozen=True)
class FilterOptions:
    """What makes an instance a pseudo-label.

    Attributes:
        score_thr: Instances need a score above it, in [0, 1].
        mask_score_thr: Instances need a mask score above it, in [0, 1].
        max_per_image: At most this many instances of an image, the best scores first.
        min_area: Instances with fewer pixels, after overlaps are settled, are dropped; at least 1.
        overlap: Who owns a pixel that several masks claim: the higher ``score``, the smaller ``area`` (thin objects in
            front of large ones), or everyone (``keep``).
        min_kept: Instances that keep a smaller share of their own pixels than this, once overlaps are settled, are
            dropped, in [0, 1]. 0 keeps the slivers that a second mask of the same object leaves, as the CAST authors'
            code does; they are most of the false small labels. Ours.
    """

    score_thr: float = 0.3
    mask_score_thr: float = 0.0
    max_per_image: int = 100
    min_area: int = 1
    overlap: str = 'score'
    min_kept: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        check_number('pseudo-labels', 'score_thr', self.score_thr, low=0, high=1)
        check_number('pseudo-labels', 'mask_score_thr', self.mask_score_thr, low=0, high=1)
        check_number('pseudo-labels', 'max_per_image', self.max_per_image, low=1, integer=True)
        check_number('pseudo-labels', 'min_area', self.min_area, low=1, integer=True)
        check_choice('pseudo-labels', 'overlap', self.overlap, OVERLAPS)
        check_number('pseudo-labels', 'min_kept', self.min_kept, low=0, high=1)


def filter_instances(
    scores: Tensor, mask_scores: Tensor, masks: Tensor, options: FilterOptions
) -> tuple[Tensor, Tensor]:
    """Choose the instances of one image that become pseudo-labels.

    Args:
        scores: Score per instance, (N,), in any order.
        mask_scores: Quality of each mask, (N,); the scores again when the model gives none.
        masks: Binary masks, (N, H, W) bool.
        options: Thresholds and rules.

    Returns:
        Indices of the kept instances, (M,), best score first, and their masks, (M, H, W) bool, without the pixels that
        they lost to others.
    """
    kept = select_instances(scores, mask_scores, options)
    settled, large = resolve_overlaps(masks[kept], options)
    return kept[large], settled[large]


def select_instances(scores: Tensor, mask_scores: Tensor, options: FilterOptions) -> Tensor:
    """Return indices, (M,), of the instances above both thresholds, best score first, at most ``max_per_image``."""
    above = (scores > options.score_thr) & (mask_scores > options.mask_score_thr)
    order = torch.argsort(scores, descending=True, stable=True)
    return order[above[order]][: options.max_per_image]


def resolve_overlaps(masks: Tensor, options: FilterOptions) -> tuple[Tensor, Tensor]:
    """Give every pixel to at most one mask, and drop masks of which too little is left.

    A mask that is dropped takes no pixel from those after it.

    Args:
        masks: Binary masks, (N, H, W) bool, best score first.
        options: ``overlap``, ``min_area`` and ``min_kept`` are read.

    Returns:
        Masks in the same order, (N, H, W) bool, and which of them are left, (N,) bool.
    """
    areas = masks.flatten(1).sum(1)
    needed = (options.min_kept * areas).clamp(min=options.min_area)
    if options.overlap == 'keep':
        return masks, areas >= needed
    order = range(len(masks))
    if options.overlap == 'area':
        order = torch.argsort(areas, stable=True).tolist()
    settled = torch.zeros_like(masks)
    taken = torch.zeros(masks.shape[1:], dtype=torch.bool, device=masks.device)
    for index in order:
        free = masks[index] & ~taken
        # A product in place of a branch, which would wait for the device at every mask.
        settled[index] = free & (free.sum() >= needed[index])
        taken |= settled[index]
    return settled, settled.flatten(1).any(1)
