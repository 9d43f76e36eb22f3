"""Which predicted instances are right: matching by mask overlap, precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from castkd.checks import check_number
from castkd.datasets.pseudo_store import encode_masks

# COCO's bounds in pixels: small below 32 x 32, large from 96 x 96.
SIZE_BOUNDS = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, float('inf'))}
SCORE_STEPS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# From this overlap on, a found instance also has its outline right.
_STRICT_IOU = 0.75


def to_run_lengths(masks: Any) -> list[dict]:  # noqa: ANN401 - every form of masks in the mm packages
    """Return COCO run lengths of masks in any form.

    Args:
        masks: Run lengths, an array or tensor (N, H, W), or mmdet's ``BitmapMasks`` or ``PolygonMasks``.
    """
    if isinstance(masks, (list, tuple)):
        return list(masks)
    if hasattr(masks, 'to_ndarray'):
        masks = masks.to_ndarray()
    return encode_masks(masks)


def to_regions(regions: Any) -> list[dict] | np.ndarray:  # noqa: ANN401 - see below
    """Return what pycocotools compares: run lengths of masks, or boxes as left, top, width and height (N, 4).

    Args:
        regions: Boxes (N, 4), x1, y1, x2, y2, array or tensor; or masks in any form of :func:`to_run_lengths`.
    """
    if getattr(regions, 'ndim', 0) != 2:
        return to_run_lengths(regions)
    boxes = _array(regions).astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


@dataclass(frozen=True)
class Matches:
    """How the predictions of one image fit its ground truth.

    Attributes:
        target: Index of the ground-truth instance that each prediction found, -1 for none, (P,).
        overlap: Intersection over union of the two, 0 for none, (P,).
        ignored: Predictions that found nothing but lie in a crowd region and count neither way, (P,) bool.
        found: Whether each ground-truth instance was found, (G,) bool; crowd regions never are.
    """

    target: np.ndarray
    overlap: np.ndarray
    ignored: np.ndarray
    found: np.ndarray

    @property
    def true_positive(self) -> np.ndarray:
        """Predictions that found an instance, (P,) bool."""
        return self.target >= 0


def match_instances(
    pred_masks: Any,  # noqa: ANN401 - see to_run_lengths
    pred_scores: Any,  # noqa: ANN401 - array or tensor
    pred_labels: Any,  # noqa: ANN401 - array or tensor
    gt_masks: Any,  # noqa: ANN401 - see to_run_lengths
    gt_labels: Any,  # noqa: ANN401 - array or tensor
    iou_thr: float = 0.5,
    gt_crowd: Any = None,  # noqa: ANN401 - array or tensor
) -> Matches:
    """Match predictions with ground truth of the same class, the best score first, each instance once.

    Args:
        pred_masks: P masks in any form of :func:`to_run_lengths`, or boxes (P, 4).
        pred_scores: Scores, (P,).
        pred_labels: Class indices, (P,).
        gt_masks: G masks, or boxes where the predictions are.
        gt_labels: Class indices, (G,).
        iou_thr: Smallest intersection over union of a match, in (0, 1].
        gt_crowd: Crowd flags, (G,); None for no crowd. A prediction lies in a crowd region when ``iou_thr`` of its own
            area does.
    """
    check_number('match_instances', 'iou_thr', iou_thr, low=0, high=1, low_open=True)
    predictions, truths = to_regions(pred_masks), to_regions(gt_masks)
    scores, labels, truth_labels = _array(pred_scores), _array(pred_labels), _array(gt_labels)
    crowd = np.zeros(len(truths), dtype=bool) if gt_crowd is None else _array(gt_crowd).astype(bool)
    target = np.full(len(predictions), -1)
    reached = np.zeros(len(predictions))
    ignored = np.zeros(len(predictions), dtype=bool)
    found = np.zeros(len(truths), dtype=bool)
    if len(predictions) and len(truths):
        overlap = np.asarray(coco_mask.iou(predictions, truths, crowd.astype(np.uint8).tolist()))
        overlap = np.where(labels[:, None] == truth_labels[None], overlap, 0.0)
        for index in np.argsort(-scores, kind='stable'):
            free = np.where(found | crowd, 0.0, overlap[index])
            best = int(free.argmax())
            if free[best] >= iou_thr:
                target[index], reached[index], found[best] = best, free[best], True
            else:
                ignored[index] = bool((overlap[index][crowd] >= iou_thr).any())
    return Matches(target, reached, ignored, found)


class PrecisionRecall:
    """Precision, recall and fit of the outlines over many images, in all, by object size and above rising scores.

    Args:
        iou_thr: Smallest mask overlap of a match, in (0, 1].
    """

    def __init__(self, iou_thr: float = 0.5) -> None:
        check_number('PrecisionRecall', 'iou_thr', iou_thr, low=0, high=1, low_open=True)
        self.iou_thr = iou_thr
        # An array per image. Columns of predictions: score, area, overlap (0 for a wrong one), true area.
        self._predictions = [np.empty((0, 4))]
        # Of ground truth: area, score that found it or -1, overlap.
        self._truths = [np.empty((0, 3))]

    def update(
        self,
        pred_masks: Any,  # noqa: ANN401 - see match_instances
        pred_scores: Any,  # noqa: ANN401 - array or tensor
        pred_labels: Any,  # noqa: ANN401 - array or tensor
        gt_masks: Any,  # noqa: ANN401 - see match_instances
        gt_labels: Any,  # noqa: ANN401 - array or tensor
        gt_crowd: Any = None,  # noqa: ANN401 - array or tensor
    ) -> None:
        """Add one image; arguments as of :func:`match_instances`."""
        scores = _array(pred_scores)
        crowd = np.zeros(len(gt_labels), bool) if gt_crowd is None else _array(gt_crowd)
        crowd = crowd.astype(bool)
        matches = match_instances(
            pred_masks, scores, pred_labels, gt_masks, gt_labels, self.iou_thr, crowd
        )
        found_by, reached = np.full(len(crowd), -1.0), np.zeros(len(crowd))
        right, target = matches.true_positive, matches.target
        found_by[target[right]], reached[target[right]] = scores[right], matches.overlap[right]
        areas, true_areas = (
            np.array(region_areas(to_regions(masks))) for masks in (pred_masks, gt_masks)
        )
        found_areas = np.zeros(len(areas))
        found_areas[right] = true_areas[target[right]]
        predictions = np.column_stack([scores, areas, matches.overlap, found_areas])
        self._predictions.append(predictions[~matches.ignored])
        self._truths.append(np.column_stack([true_areas, found_by, reached])[~crowd])

    def compute(self) -> dict:
        """Return the numbers so far, ready for JSON.

        Returns:
            ``precision`` and ``recall`` in [0, 1], ``recall_75``, the share of instances found with an overlap of at
            least 0.75, ``mean_iou``, the mean overlap of the predictions that are right, ``area_ratio``, the median of
            their areas in shares of the true ones (all None without predictions or instances), ``predictions``,
            ``instances`` (counts), ``by_size`` (the same per COCO size; the sizes of predictions for precision, of
            ground truth for recall), ``by_area`` (the same in finer bins that double, from ``from`` up to below ``to``
            pixels, without those where nothing is) and ``by_score`` (the same, with only the predictions whose score
            is above ``above``).
        """
        predictions, truths = np.concatenate(self._predictions), np.concatenate(self._truths)
        by_size = {
            name: _numbers_between(predictions, truths, bounds)
            for name, bounds in SIZE_BOUNDS.items()
        }
        by_area = [
            {'from': low, 'to': 2 * low, **_numbers_between(predictions, truths, (low, 2 * low))}
            for low in _doubling_bins(np.concatenate([predictions[:, 1], truths[:, 0]]))
        ]
        by_score = [
            {'above': step, **_numbers(predictions[predictions[:, 0] > step], truths, step)}
            for step in SCORE_STEPS
        ]
        return {
            **_numbers(predictions, truths),
            'by_size': by_size,
            'by_area': by_area,
            'by_score': by_score,
        }


def _numbers(predictions: np.ndarray, truths: np.ndarray, above: float = -0.5) -> dict:
    found = truths[:, 1] > above
    right = predictions[predictions[:, 2] > 0]
    return {
        'precision': _mean(predictions[:, 2] > 0),
        'recall': _mean(found),
        'recall_75': _mean(found & (truths[:, 2] >= _STRICT_IOU)),
        'mean_iou': _mean(right[:, 2]),
        'area_ratio': float(np.median(right[:, 1] / right[:, 3])) if len(right) else None,
        'predictions': len(predictions),
        'instances': len(truths),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _numbers_between(
    predictions: np.ndarray, truths: np.ndarray, bounds: tuple[float, float]
) -> dict:
    return _numbers(
        predictions[_between(predictions[:, 1], bounds)], truths[_between(truths[:, 0], bounds)]
    )


def _doubling_bins(areas: np.ndarray) -> list[int]:
    """Return the powers of two at which the bins [low, 2 low) that hold an area begin; the first bin is [1, 2)."""
    powers = {int(area).bit_length() - 1 for area in areas if area >= 1}
    return [2**power for power in sorted(powers)]


def _between(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return (values >= bounds[0]) & (values < bounds[1])


def region_areas(regions: Sequence[dict] | np.ndarray) -> list[float]:
    """Return the areas, in pixels, of what :func:`to_regions` gives."""
    return [
        float(coco_mask.area(region) if isinstance(region, dict) else region[2] * region[3])
        for region in regions
    ]


def _array(values: Any) -> np.ndarray:  # noqa: ANN401 - array, tensor or list
    return values.detach().cpu().numpy() if torch.is_tensor(values) else np.asarray(values)
