"""The COCO file that pseudo-labels are stored in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from castkd.checks import check_file
from castkd.errors import DataError, in_words

FORMAT_VERSION = 1


def encode_masks(masks: Tensor | np.ndarray) -> list[dict]:
    """Return compressed COCO run lengths of binary masks (N, H, W), with ``counts`` as text."""
    if torch.is_tensor(masks):
        masks = masks.cpu().numpy()
    if len(masks) == 0:
        return []
    columns = np.asfortranarray(masks.astype(np.uint8).transpose(1, 2, 0))
    return [
        {'size': [int(side) for side in code['size']], 'counts': code['counts'].decode('ascii')}
        for code in coco_mask.encode(columns)
    ]


def instance_records(
    masks: Tensor, labels: Tensor, scores: Tensor, mask_scores: Tensor
) -> list[dict]:
    """Return one COCO annotation per instance of an image, without ids.

    Args:
        masks: Binary masks in pixels of the image file, (N, H, W) bool.
        labels: Class index per instance, (N,), from 0.
        scores: Score per instance, (N,).
        mask_scores: Mask quality per instance, (N,).
    """
    return [
        {
            'category_id': label + 1,
            'segmentation': code,
            'bbox': coco_mask.toBbox(code).tolist(),
            'area': int(coco_mask.area(code)),
            'iscrowd': 0,
            'score': score,
            'mask_score': mask_score,
        }
        for code, label, score, mask_score in zip(
            encode_masks(masks), labels.tolist(), scores.tolist(), mask_scores.tolist(), strict=True
        )
    ]


def coco_content(
    images: Iterable[Mapping[str, Any]], classes: Sequence[str], info: Mapping[str, Any]
) -> dict:
    """Return the content of a pseudo-label file: COCO, with ``score`` and ``mask_score`` in every annotation.

    Args:
        images: Per image ``file_name``, ``width``, ``height`` and ``annotations`` (from :func:`instance_records`).
        classes: Class names; the category id is the index plus one.
        info: Where the labels come from; the counts and the format version are added.
    """
    image_records, annotations = [], []
    counts = dict.fromkeys(classes, 0)
    for image_id, image in enumerate(images, start=1):
        sizes = {key: image[key] for key in ('file_name', 'width', 'height')}
        image_records.append({'id': image_id, **sizes})
        for annotation in image['annotations']:
            ids = {'id': len(annotations) + 1, 'image_id': image_id}
            annotations.append({**ids, **annotation})
            counts[classes[annotation['category_id'] - 1]] += 1
    with_labels = len({annotation['image_id'] for annotation in annotations})
    info = {
        'format_version': FORMAT_VERSION,
        **info,
        'num_images': len(image_records),
        'num_images_without_instances': len(image_records) - with_labels,
        'num_instances': len(annotations),
        'num_instances_per_class': counts,
    }
    categories = [{'id': index, 'name': name} for index, name in enumerate(classes, start=1)]
    return {
        'info': info,
        'categories': categories,
        'images': image_records,
        'annotations': annotations,
    }


@dataclass(frozen=True)
class PseudoLabels:
    """Content of a pseudo-label file.

    Attributes:
        info: Where the labels come from, and counts.
        classes: Class names.
        images: Per image ``id``, ``file_name``, ``width``, ``height`` and ``annotations``.
    """

    info: dict
    classes: tuple[str, ...]
    images: list[dict]


def read_pseudo_labels(path: str | Path) -> PseudoLabels:
    """Read a pseudo-label file.

    Raises:
        DataError: When it is missing, damaged or of another format.
    """
    path = check_file('pseudo-labels', 'file', path, 'make it with tools/pseudo_label.py')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        info = content['info']
        version = info['format_version']
        classes = tuple(category['name'] for category in content['categories'])
        images = {image['id']: {**image, 'annotations': []} for image in content['images']}
        for annotation in content['annotations']:
            images[annotation['image_id']]['annotations'].append(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{str(path)!r} is no pseudo-label file or damaged ({in_words(error)}); '
            'make it again with tools/pseudo_label.py'
        ) from error
    if version != FORMAT_VERSION:
        raise DataError(
            f'{str(path)!r} has format version {version}, this castkd reads {FORMAT_VERSION}; '
            'make it again with tools/pseudo_label.py'
        )
    return PseudoLabels(info, classes, list(images.values()))


def decode_masks(image: Mapping[str, Any]) -> np.ndarray:
    """Return the masks of one image of a pseudo-label file, (N, H, W) bool."""
    shape = (len(image['annotations']), image['height'], image['width'])
    masks = np.zeros(shape, dtype=bool)
    for index, annotation in enumerate(image['annotations']):
        masks[index] = coco_mask.decode(annotation['segmentation'])
    return masks
