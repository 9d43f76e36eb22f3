"""Mask AP of a few images held in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from castkd.errors import DataError
from castkd.evaluation.matching import to_run_lengths


def instance_ap(
    predictions: Sequence[Any], ground_truths: Sequence[Any], num_classes: int
) -> dict[str, float]:
    """Return COCO mask AP, printing nothing.

    Args:
        predictions: Per image an object with ``masks`` (N, H, W), ``labels`` (N,) and ``scores`` (N,), such as
            ``pred_instances`` of mmdet.
        ground_truths: Per image an object with ``masks`` and ``labels``, such as ``gt_instances`` of mmdet; masks in
            any form of :func:`~castkd.evaluation.matching.to_run_lengths`, in the same pixels as the predicted ones.
        num_classes: Number of classes.

    Returns:
        ``AP`` (IoU 0.50 to 0.95), ``AP50`` and ``AP75`` in [0, 1]; ``nan`` when there is no ground-truth instance.

    Raises:
        DataError: When the two lists differ in length.
    """
    if len(predictions) != len(ground_truths):
        raise DataError(
            f'instance_ap: {len(predictions)} images with predictions but {len(ground_truths)} with ground truth'
        )
    truths = _annotations(ground_truths)
    results = _annotations(predictions, with_scores=True)
    names = ('AP', 'AP50', 'AP75')
    if not truths:
        return dict.fromkeys(names, float('nan'))
    if not results:
        return dict.fromkeys(names, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        images, categories = range(len(ground_truths)), range(num_classes)
        evaluation = COCOeval(
            _coco(truths, images, categories), _coco(results, images, categories), iouType='segm'
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(names, evaluation.stats[:3], strict=True)}


def _annotations(images: Sequence[Any], with_scores: bool = False) -> list[dict]:
    annotations = []
    for image_id, instances in enumerate(images):
        codes = to_run_lengths(instances.masks)
        labels = [int(label) for label in instances.labels]
        for index, (code, label) in enumerate(zip(codes, labels, strict=True)):
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': label,
                'segmentation': code,
                'area': float(coco_mask.area(code)),
                'iscrowd': 0,
            }
            if with_scores:
                annotation['score'] = float(instances.scores[index])
            annotations.append(annotation)
    return annotations


def _coco(annotations: list[dict], images: Sequence[int], categories: Sequence[int]) -> COCO:
    coco = COCO()
    # Run lengths know their size, but pycocotools looks it up in the image.
    sizes = {
        annotation['image_id']: annotation['segmentation']['size'] for annotation in annotations
    }
    coco.dataset = {
        'images': [
            dict(zip(('id', 'height', 'width'), (index, *sizes.get(index, (0, 0))), strict=True))
            for index in images
        ],
        'categories': [{'id': label} for label in categories],
        'annotations': annotations,
    }
    coco.createIndex()
    return coco
