"""Builder of the data part of a semantic-segmentation config, so that a data set's file holds what differs.

A config file calls it as it calls :mod:`castkd.architectures`. What it returns are ordinary mm configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from castkd.data_configs.shared import data_parts


def map_crop(size: tuple[int, int], cat_max_ratio: float = 0.75) -> dict:
    """Return a random crop of images with label maps.

    Args:
        size: Height and width of the crop.
        cat_max_ratio: See :class:`castkd.datasets.transforms.RandomCrop`.
    """
    return {'type': 'castkd.RandomCrop', 'crop_size': size, 'cat_max_ratio': cat_max_ratio}


def semantic_data(
    pieces: Mapping[str, Any],
    dataset: Mapping[str, Any],
    *,
    train: Mapping[str, str],
    val: Mapping[str, str],
    augmentation: Sequence[dict],
    test_scale: tuple[int, int] | None,
    palette: bool = False,
) -> dict[str, Any]:
    """Return what a config needs to train on label maps of some images and to validate on others.

    Args:
        pieces: Parts of the pipelines, named as in ``configs/_base_/datasets/semi_supervised_semantic.py``.
        dataset: ``type`` of the mmseg data set, ``data_root``, ``metainfo`` with ``classes``, and other options of it.
        train: ``images`` and ``maps``, folders of the training images relative to ``data_root``, and maybe ``names``, a
            text file with the name of one image per line. The unlabelled images are the others of those.
        val: The same of the validation images.
        augmentation: Transforms of training that all views of an image share: ``random_geometry``, and ``color_jitter``
            where the weak view has other colours than the file (:mod:`castkd.data_configs.shared`).
        test_scale: Width and height that images are resized into for prediction; None leaves them as they are.
        palette: See :class:`castkd.datasets.index_maps.LoadSemanticAnnotations`.

    Returns:
        Value per top-level name, see :func:`castkd.data_configs.shared.data_parts`.
    """
    shared = list(augmentation)
    load_labels = {
        'type': 'castkd.LoadSemanticAnnotations',
        'num_classes': len(dataset['metainfo']['classes']),
    }
    real_labels = {**load_labels, 'palette': True} if palette else load_labels
    resize = {'type': 'mmseg.Resize', 'scale': test_scale, 'keep_ratio': True}
    resizes = [resize] if test_scale else []
    load = pieces['load_image']
    pipelines = {
        'labeled': [*load, real_labels, *shared, *pieces['labeled_views']],
        'unlabeled': [*load, *shared, *pieces['unlabeled_views']],
        'pseudo': [*load, load_labels, *shared, *pieces['unlabeled_views']],
        # mmseg compares predictions in pixels of the file, so labels come after the resize.
        'test': [*load, *resizes, real_labels, pieces['pack']],
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
    pseudo = {
        'type': 'castkd.PseudoMapDataset',
        'data_prefix': {'img': dataset['data_root'] + train['images']},
        'metainfo': dataset['metainfo'],
        'pipeline': pipelines['pseudo'],
    }
    validated = {**_annotated(dataset, val), 'test_mode': True, 'pipeline': pipelines['test']}
    evaluator = {'type': 'mmseg.IoUMetric', 'iou_metrics': ['mIoU']}
    datasets = {'labeled': labeled, 'unlabeled': unlabeled, 'pseudo': pseudo}
    return data_parts(pipelines, datasets, validated, evaluator)


def _annotated(dataset: Mapping[str, Any], part: Mapping[str, str]) -> dict[str, Any]:
    prefix = {'img_path': part['images'], 'seg_map_path': part['maps']}
    listed = {'ann_file': part['names']} if 'names' in part else {}
    return {**dataset, 'data_prefix': prefix, **listed}
