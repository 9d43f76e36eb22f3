"""Mask AP and box AP of a few images held in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from castkd.errors import DataError
from castkd.evaluation.matching import region_areas, to_regions


def instance_ap(
    predictions: Sequence[Any],
    ground_truths: Sequence[Any],
    num_classes: int,
    *,
    boxes: bool = False,
) -> dict[str, float]:
    """Return COCO mask AP, or box AP, printing nothing.

    Args:
        predictions: Per image an object with ``masks`` (N, H, W), ``labels`` (N,) and ``scores`` (N,), such as
            ``pred_instances`` of mmdet.
        ground_truths: Per image an object with ``masks`` and ``labels``, such as ``gt_instances`` of mmdet; masks in
            any form of :func:`~castkd.evaluation.matching.to_run_lengths`, in the same pixels as the predicted ones.
        num_classes: Number of classes.
        boxes: Whether boxes are compared: ``bboxes`` (N, 4), x1, y1, x2, y2, in place of ``masks``.

    Returns:
        ``AP`` (IoU 0.50 to 0.95), ``AP50`` and ``AP75`` in [0, 1]; ``nan`` when there is no ground-truth instance.

    Raises:
        DataError: When the two lists differ in length.
    """
    if len(predictions) != len(ground_truths):
        raise DataError(
            f'instance_ap: {len(predictions)} images with predictions but {len(ground_truths)} with ground truth'
        )
    truths = _annotations(ground_truths, boxes)
    results = _annotations(predictions, boxes, with_scores=True)
    names = ('AP', 'AP50', 'AP75')
    if not truths:
        return dict.fromkeys(names, float('nan'))
    if not results:
        return dict.fromkeys(names, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        images, categories = range(len(ground_truths)), range(num_classes)
        evaluation = COCOeval(
            _coco(truths, images, categories),
            _coco(results, images, categories),
            iouType='bbox' if boxes else 'segm',
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(names, evaluation.stats[:3], strict=True)}


def _annotations(images: Sequence[Any], boxes: bool, with_scores: bool = False) -> list[dict]:
    annotations = []
    for image_id, instances in enumerate(images):
        regions = to_regions(instances.bboxes if boxes else instances.masks)
        labels = [int(label) for label in instances.labels]
        for index, (region, label) in enumerate(zip(regions, labels, strict=True)):
            annotation = {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': label,
                'area': region_areas([region])[0],
                'iscrowd': 0,
                **({'bbox': region.tolist()} if boxes else {'segmentation': region}),
            }
            if with_scores:
                annotation['score'] = float(instances.scores[index])
            annotations.append(annotation)
    return annotations


def _coco(annotations: list[dict], images: Sequence[int], categories: Sequence[int]) -> COCO:
    coco = COCO()
    # Run lengths know their size, but pycocotools looks it up in the image.
    sizes = {
        annotation['image_id']: annotation['segmentation']['size']
        for annotation in annotations
        if 'segmentation' in annotation
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
