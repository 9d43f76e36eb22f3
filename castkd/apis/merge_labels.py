"""Merge the pseudo-label files of several teachers into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import InstanceData

from castkd.checks import check_number
from castkd.datasets.pseudo_filter import FilterOptions, filter_instances
from castkd.datasets.pseudo_store import (
    PseudoLabels,
    coco_content,
    decode_masks,
    instance_records,
    read_pseudo_labels,
)
from castkd.errors import ConfigError, DataError
from castkd.files import write_file
from castkd.teachers.merged import agreement_weights, check_agreement, merge_instances
from castkd.version import __version__


def merge_labels(
    files: Sequence[str | Path],
    weights: Sequence[float] | str,
    out: str | Path,
    *,
    iou_thr: float = 0.5,
    score_thr: float = 0.0,
) -> dict:
    """Merge what several teachers labelled, by the rule of :func:`castkd.teachers.merged.merge_instances`.

    Overlaps are settled afterwards as in every label file: the higher score owns a pixel.

    Args:
        files: Files of :func:`~castkd.apis.pseudo_label.generate_pseudo_labels`, of the same images and classes. Make
            them with a low threshold: an instance that a single teacher found loses score here.
        weights: Per file its teacher's validation AP, above 0. Or ``agreement`` for three files or more: in every image
            a teacher weighs as much as the others agree with it (:func:`castkd.teachers.merged.agreement_weights`).
        out: The file to write.
        iou_thr: Masks of one class are one instance when their IoU is above it, in [0, 1].
        score_thr: Merged instances need a score above it, in [0, 1].

    Returns:
        The ``info`` of the file with ``out``.

    Raises:
        ConfigError: When there is not one weight per file, or a number is out of range.
        DataError: When a file is missing, damaged, or of other images or classes, or ``out`` cannot be written.
    """
    check_number('merge_labels', 'iou_thr', iou_thr, low=0, high=1)
    options = FilterOptions(score_thr=score_thr)
    by_agreement = isinstance(weights, str)
    if by_agreement:
        check_agreement('merge_labels', weights, len(files))
        weights = [weights] * len(files)
    elif len(files) < 2 or len(files) != len(weights):
        raise ConfigError(
            f'merge_labels: needs two files or more and a weight for each, got {len(files)} files and {len(weights)} '
            'weights'
        )
    for file, weight in () if by_agreement else zip(files, weights, strict=True):
        check_number('merge_labels', f'weight of {str(file)!r}', weight, low=0, low_open=True)
    found = [read_pseudo_labels(file) for file in files]
    first = found[0]
    named = [_by_name(file, labels, first) for file, labels in zip(files, found, strict=True)]
    images = []
    for image in first.images:
        name = image['file_name']
        instances = [_instances(own[name]) for own in named]
        given = agreement_weights(instances, iou_thr) if by_agreement else weights
        merged = merge_instances(instances, given, iou_thr)
        kept, masks = filter_instances(merged.scores, merged.mask_scores, merged.masks, options)
        records = instance_records(
            masks, merged.labels[kept], merged.scores[kept], merged.mask_scores[kept]
        )
        images.append({**image, 'annotations': records})
    info = {
        'description': 'pseudo-labels',
        'castkd_version': __version__,
        'merged': [
            {
                'file': str(file),
                'weight': weight if by_agreement else float(weight),
                'checkpoint': labels.info.get('checkpoint'),
            }
            for file, weight, labels in zip(files, weights, found, strict=True)
        ],
        'options': {**asdict(options), 'iou_thr': iou_thr},
        'image_root': first.info.get('image_root'),
    }
    content = coco_content(images, first.classes, info)
    try:
        write_file(out, json.dumps(content))
    except OSError as error:
        raise DataError(
            f'merge_labels: cannot write {str(out)!r} ({error.strerror or error}); choose another place'
        ) from error
    return {**content['info'], 'out': str(out)}


def _by_name(file: str | Path, labels: PseudoLabels, first: PseudoLabels) -> dict[str, dict]:
    """Return the images of a file by name, compared with those of the first file."""
    if labels.classes != first.classes:
        raise DataError(
            f'merge_labels: {str(file)!r} has classes {labels.classes}, the first file {first.classes}; label with the '
            'same classes'
        )
    images = {image['file_name']: image for image in labels.images}
    for image in first.images:
        own = images.get(image['file_name'])
        sizes = [item and (item['height'], item['width']) for item in (own, image)]
        if sizes[0] != sizes[1] or len(images) != len(first.images):
            raise DataError(
                f'merge_labels: {str(file)!r} has {len(images)} images, the first file {len(first.images)}, and '
                f'{image["file_name"]!r} is not the same in both; label the same images'
            )
    return images


def _instances(image: dict[str, Any]) -> InstanceData:
    records = image['annotations']
    return InstanceData(
        labels=torch.tensor([item['category_id'] - 1 for item in records], dtype=torch.long),
        scores=torch.tensor([item['score'] for item in records], dtype=torch.float),
        mask_scores=torch.tensor([item['mask_score'] for item in records], dtype=torch.float),
        masks=torch.from_numpy(decode_masks(image)),
    )
