"""Builders of the data part of a semantic-segmentation config, so that a data set's file holds what differs.

A config file calls them as it calls :mod:`castkd.instance_data`. What they return are ordinary mm configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def random_geometry(
    scale: tuple[int, int],
    crop_size: tuple[int, int],
    *,
    ratio_range: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
) -> list[dict]:
    """Return mmseg's usual transforms of training that move pixels: resize, crop, mirror.

    Args:
        scale: Width and height that an image is resized into, before the factor.
        crop_size: Height and width of the crop.
        ratio_range: Interval of the factor of the size.
        cat_max_ratio: See :class:`castkd.datasets.transforms.RandomCrop`.
    """
    resize = {
        'type': 'RandomResize',
        'scale': scale,
        'ratio_range': ratio_range,
        'keep_ratio': True,
        # mmdet's keep the record of the geometry.
        'resize_type': 'mmdet.Resize',
    }
    crop = {'type': 'castkd.RandomCrop', 'crop_size': crop_size, 'cat_max_ratio': cat_max_ratio}
    return [resize, crop, {'type': 'mmdet.RandomFlip', 'prob': 0.5}]


def semantic_data(
    pieces: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    train: Mapping[str, str],
    val: Mapping[str, str],
    augmentation: Sequence[dict],
    test_scale: tuple[int, int],
    palette: bool = False,
) -> dict[str, Any]:
    """Return what a config needs to train on label maps of some images and to validate on others.

    Args:
        pieces: Parts of the pipelines, named as in ``configs/_base_/datasets/semi_supervised_semantic.py``.
        dataset: ``type`` of the mmseg data set, ``data_root``, ``metainfo`` with ``classes``, and other options of it.
        train: ``images`` and ``maps``, folders of the training images relative to ``data_root``, and maybe ``names``, a
            text file with the name of one image per line. The unlabelled images are the others of those.
        val: The same of the validation images.
        augmentation: Transforms of training that all views of an image share: :func:`random_geometry`, and
            :func:`castkd.instance_data.color_jitter` where the weak view has other colours than the file.
        test_scale: Width and height that images are resized into for prediction.
        palette: See :class:`castkd.datasets.index_maps.LoadSemanticAnnotations`.

    Returns:
        Value per top-level name: ``labeled_pipeline``, ``unlabeled_pipeline``, ``pseudo_pipeline`` (for images whose
        labels a teacher made), ``test_pipeline``, ``labeled_dataset``, ``unlabeled_dataset``, the loaders and the
        evaluators.
    """
    shared = list(augmentation)
    load_labels = {
        'type': 'castkd.LoadSemanticAnnotations',
        'num_classes': len(dataset['metainfo']['classes']),
    }
    real_labels = {**load_labels, 'palette': True} if palette else load_labels
    resize = {'type': 'mmseg.Resize', 'scale': test_scale, 'keep_ratio': True}
    load = pieces['load_image']
    pipelines = {
        'labeled': [*load, real_labels, *shared, *pieces['labeled_views']],
        'unlabeled': [*load, *shared, *pieces['unlabeled_views']],
        'pseudo': [*load, load_labels, *shared, *pieces['unlabeled_views']],
        # mmseg compares predictions in pixels of the file, so labels come after the resize.
        'test': [*load, resize, real_labels, pieces['pack']],
    }
    labeled = {**_annotated(dataset, train), 'pipeline': pipelines['labeled']}
    unlabeled = {
        'type': 'castkd.ImageFolder',
        'data_root': dataset['data_root'],
        'metainfo': dataset['metainfo'],
        'data_prefix': {'img': train['images']},
        'pipeline': pipelines['unlabeled'],
    }
    if 'names' in train:
        unlabeled['names'] = train['names']
    validated = {**_annotated(dataset, val), 'test_mode': True, 'pipeline': pipelines['test']}
    evaluator = {'type': 'mmseg.IoUMetric', 'iou_metrics': ['mIoU']}
    return {
        **{f'{name}_pipeline': pipeline for name, pipeline in pipelines.items()},
        'labeled_dataset': labeled,
        'unlabeled_dataset': unlabeled,
        'train_dataloader': {
            'dataset': {'sources': {'labeled': labeled, 'unlabeled': unlabeled}},
        },
        'val_dataloader': {'dataset': validated},
        'test_dataloader': {'dataset': validated},
        'val_evaluator': evaluator,
        'test_evaluator': evaluator,
    }


def _annotated(dataset: Mapping[str, Any], part: Mapping[str, str]) -> dict[str, Any]:
    prefix = {'img_path': part['images'], 'seg_map_path': part['maps']}
    listed = {'ann_file': part['names']} if 'names' in part else {}
    return {**dataset, 'data_prefix': prefix, **listed}
