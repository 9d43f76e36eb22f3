"""Builder of the data part of an instance-segmentation config, so that a data set's file holds what differs.

A config file calls it as it calls :mod:`castkd.architectures`. What it returns are ordinary mm configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from castkd.data_configs.shared import data_parts


def instance_crop(size: tuple[int, int]) -> dict:
    """Return a random crop of images with instances; ``size`` is (width, height)."""
    return {
        'type': 'mmdet.RandomCrop',
        'crop_size': size,
        'allow_negative_crop': True,
        'recompute_bbox': True,
    }


def detector_geometry() -> list[dict]:
    """Return the transforms of training of DETR (Carion et al., ECCV 2020), which detectors of its family have.

    An image is brought to a short side of 480 to 800 pixels, half of the time after a crop out of one of 400 to 600;
    half of the images are mirrored.
    """
    resize = _short_side(range(480, 801, 32), 1333)
    crop = {
        **instance_crop((384, 600)),
        # Each side is drawn from this range.
        'crop_type': 'absolute_range',
    }
    cropped = [_short_side((400, 500, 600), 4200), crop, resize]
    return [
        {'type': 'mmdet.RandomFlip', 'prob': 0.5},
        {'type': 'RandomChoice', 'transforms': [[resize], cropped]},
    ]


def _short_side(sides: Sequence[int], longest: int) -> dict:
    return {
        'type': 'RandomChoiceResize',
        'scales': [(side, longest) for side in sides],
        'resize_type': 'castkd.Resize',
        'keep_ratio': True,
    }


def instance_data(
    pieces: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    train: tuple[str, str],
    val: tuple[str, str],
    augmentation: Sequence[dict],
    test_scale: tuple[int, int],
) -> dict[str, Any]:
    """Return what a config needs to train on COCO annotations of some images and to validate on others.

    Args:
        pieces: Parts of the pipelines, named as in ``configs/_base_/datasets/semi_supervised.py``.
        dataset: ``type`` of the data set with annotations, ``data_root`` and ``metainfo``.
        train: Annotation file and image folder of the training images, relative to ``data_root``. The folder holds the
            unlabelled images too.
        val: The same of the validation images.
        augmentation: Transforms of training that all views of an image share: ``random_geometry``, and ``color_jitter``
            where the weak view has other colours than the file (:mod:`castkd.data_configs.shared`).
        test_scale: Width and height that images are resized into for prediction.

    Returns:
        Value per top-level name, see :func:`castkd.data_configs.shared.data_parts`.
    """
    shared = list(augmentation)
    resize = {'type': 'mmdet.Resize', 'scale': test_scale, 'keep_ratio': True}
    pipelines = {
        'labeled': pieces['load_labeled'] + shared + pieces['labeled_views'],
        'unlabeled': pieces['load_unlabeled'] + shared + pieces['unlabeled_views'],
        'pseudo': pieces['load_labeled'] + shared + pieces['unlabeled_views'],
        'test': [*pieces['load_image'], resize, *pieces['load_labels'], pieces['pack']],
    }
    labeled = {
        **_annotated(dataset, *train),
        'filter_cfg': {'filter_empty_gt': True},
        'pipeline': pipelines['labeled'],
    }
    unlabeled = {
        **dataset,
        'type': 'castkd.ImageFolder',
        'data_prefix': {'img': train[1]},
        'pipeline': pipelines['unlabeled'],
    }
    pseudo = {
        **dataset,
        'type': 'mmdet.CocoDataset',
        'data_root': '',
        'data_prefix': {'img': dataset['data_root'] + train[1]},
        'pipeline': pipelines['pseudo'],
    }
    validated = {**_annotated(dataset, *val), 'test_mode': True, 'pipeline': pipelines['test']}
    evaluator = {
        'type': 'mmdet.CocoMetric',
        'ann_file': dataset['data_root'] + val[0],
        'metric': 'segm',
    }
    datasets = {'labeled': labeled, 'unlabeled': unlabeled, 'pseudo': pseudo}
    return data_parts(pipelines, datasets, validated, evaluator)


def _annotated(dataset: Mapping[str, Any], ann_file: str, folder: str) -> dict[str, Any]:
    return {**dataset, 'ann_file': ann_file, 'data_prefix': {'img': folder}}
