"""Builders of the data part of an instance-segmentation config, so that a data set's file holds what differs.

A config file calls them as it calls :mod:`castkd.architectures`. What they return are ordinary mm configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def scale_jitter(size: tuple[int, int], low: float, high: float) -> dict:
    """Return a resize into ``size`` (width, height) times a factor drawn from [low, high]."""
    return {
        'type': 'RandomResize',
        'scale': size,
        'ratio_range': (low, high),
        'keep_ratio': True,
        'resize_type': 'mmdet.Resize',
    }


def short_side_jitter(side: int, longest: int) -> dict:
    """Return a resize of the shorter side to 0.5, 0.6 ... 2 times ``side``, the longer one at most ``longest``."""
    return {
        'type': 'RandomChoiceResize',
        'scales': [side * tenths // 10 for tenths in range(5, 21)],
        'resize_type': 'mmdet.ResizeShortestEdge',
        'max_size': longest,
    }


def random_geometry(
    resize: dict, crop_size: tuple[int, int], flip: Mapping[str, Any] | None = None
) -> list[dict]:
    """Return the transforms of training that move pixels.

    Args:
        resize: The first of them.
        crop_size: Width and height of the crop that follows.
        flip: Options of the flip; None mirrors half of the images left to right.
    """
    crop = {
        'type': 'mmdet.RandomCrop',
        'crop_size': crop_size,
        'allow_negative_crop': True,
        'recompute_bbox': True,
    }
    return [resize, crop, {'type': 'mmdet.RandomFlip', **(flip or {'prob': 0.5})}]


def color_jitter() -> dict:
    """Return the colour distortion of SSD (Liu et al., ECCV 2016), which the training of Mask2Former has.

    It is mmseg's: that of mmdet leaves floats, and the strong view is made from uint8.
    """
    return {'type': 'mmseg.PhotoMetricDistortion'}


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
        augmentation: Transforms of training that all views of an image share: :func:`random_geometry`, and
            :func:`color_jitter` where the weak view has other colours than the file.
        test_scale: Width and height that images are resized into for prediction.

    Returns:
        Value per top-level name: ``labeled_pipeline``, ``unlabeled_pipeline``, ``pseudo_pipeline`` (for images whose
        labels a teacher made), ``test_pipeline``, ``labeled_dataset``, ``unlabeled_dataset``, ``pseudo_dataset``
        (without its ``ann_file``), the loaders and the evaluators.
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
    return {
        **{f'{name}_pipeline': pipeline for name, pipeline in pipelines.items()},
        'labeled_dataset': labeled,
        'unlabeled_dataset': unlabeled,
        'pseudo_dataset': pseudo,
        'train_dataloader': {
            'dataset': {'sources': {'labeled': labeled, 'unlabeled': unlabeled}},
        },
        'val_dataloader': {'dataset': validated},
        'test_dataloader': {'dataset': validated},
        'val_evaluator': evaluator,
        'test_evaluator': evaluator,
    }


def _annotated(dataset: Mapping[str, Any], ann_file: str, folder: str) -> dict[str, Any]:
    return {**dataset, 'ann_file': ann_file, 'data_prefix': {'img': folder}}
