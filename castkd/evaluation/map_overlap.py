"""Overlap of class maps with their ground truth over many images."""

from __future__ import annotations

from typing import Any

import numpy as np

from castkd.semantic import IGNORE


class MapOverlap:
    """Counts pixels by predicted and true class; gives IoU per class and its mean, as mmseg's ``IoUMetric`` does.

    Pixels without a true class do not count. Pixels without a predicted class (of a pseudo-label that left them open)
    are counted apart, and have no part in IoU and accuracy.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._pairs = np.zeros((num_classes, num_classes), dtype=np.int64)
        self._open = 0

    def update(self, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Count one image.

        Args:
            predicted: Class per pixel (H, W), 255 for none.
            truth: Class per pixel (H, W), 255 for none.
        """
        known = truth != IGNORE
        labelled = known & (predicted != IGNORE)
        self._open += int(known.sum() - labelled.sum())
        codes = truth[labelled].astype(np.int64) * self.num_classes + predicted[labelled]
        counts = np.bincount(codes, minlength=self.num_classes**2)
        self._pairs += counts.reshape(self.num_classes, self.num_classes)

    def compute(self) -> dict[str, Any]:
        """Return what was counted.

        Returns:
            ``mIoU``, the mean over classes that occur on either side; ``accuracy``, the share of right pixels; ``IoU``,
            a list per class with None for a class that does not occur; ``share``, the share of pixels with a true class
            that were labelled. All in [0, 1], None where there is nothing to count.
        """
        right = self._pairs.diagonal()
        union = self._pairs.sum(0) + self._pairs.sum(1) - right
        overlaps = [
            float(hit / all_of_it) if all_of_it else None
            for hit, all_of_it in zip(right, union, strict=True)
        ]
        occurring = [overlap for overlap in overlaps if overlap is not None]
        total = int(self._pairs.sum())
        return {
            'mIoU': sum(occurring) / len(occurring) if occurring else None,
            'accuracy': float(right.sum() / total) if total else None,
            'share': total / (total + self._open) if total + self._open else None,
            'IoU': overlaps,
        }
