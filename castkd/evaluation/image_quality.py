"""How well the prediction of a single image fits its ground truth, in one number for ranking images."""

from __future__ import annotations

from typing import Any

import numpy as np

from castkd.evaluation.map_overlap import MapOverlap
from castkd.evaluation.matching import match_instances, to_run_lengths
from castkd.semantic import IGNORE

# COCO's thresholds of mask overlap: 0.50, 0.55, ..., 0.95.
IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def instance_f1(predicted: Any, truth: Any) -> float | None:  # noqa: ANN401 - InstanceData or alike
    """Return the F1 score of predicted instances, averaged over COCO's ten overlaps.

    Masks are compared, or boxes where one side has no masks. At an overlap t it is 2 TP / (P + G) with P predictions, G
    instances and TP matches of the same class (:func:`~castkd.evaluation.matching.match_instances`). Unlike AP it needs
    no ranking over a data set and counts all predictions alike, so they have to be thresholded first. It knows no crowd
    regions.

    Args:
        predicted: With ``masks`` (P, h, w) or ``bboxes`` (P, 4), ``labels`` (P,) and ``scores`` (P,).
        truth: With ``masks`` (G) in any form of :func:`~castkd.evaluation.matching.to_run_lengths` or ``bboxes``, and
            ``labels`` (G,).

    Returns:
        A number in [0, 1]; None when there is nothing on either side.
    """
    count = len(predicted.labels) + len(truth.labels)
    if count == 0:
        return None
    name = 'masks' if 'masks' in predicted and 'masks' in truth else 'bboxes'
    regions, truths = predicted[name], truth[name]
    if name == 'masks':
        # Once, not for every overlap.
        regions, truths = to_run_lengths(regions), to_run_lengths(truths)
    found = [
        match_instances(
            regions, predicted.scores, predicted.labels, truths, truth.labels, threshold
        ).found.sum()
        for threshold in IOU_THRESHOLDS
    ]
    return float(2 * np.mean(found) / count)


def class_map_iou(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the mean intersection over union of the classes that occur in an image.

    Args:
        predicted: Class per pixel, (h, w).
        truth: Class per pixel, (h, w); pixels with 255 do not count.

    Returns:
        A number in [0, 1]; None when every pixel is ignored.
    """
    # As many as an index map can have.
    overlap = MapOverlap(IGNORE)
    overlap.update(predicted, truth)
    return overlap.compute()['mIoU']
