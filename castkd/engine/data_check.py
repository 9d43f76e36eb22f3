"""Checks of the data of a run before its first step: readable, apart from each other, and of the model's classes."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.data import Dataset

from castkd.datasets.reading import (
    check_files,
    image_files,
    image_root,
    is_local,
    read_dataset,
    resolved,
)
from castkd.datasets.source import LABELED, ImageFolder, SourceDataset
from castkd.datasets.splits import check_disjoint
from castkd.errors import ConfigError
from castkd.registry import DATASETS


def check_training_data(
    config: Mapping[str, Any], dataset: Dataset, used: Collection[str], model: nn.Module
) -> None:
    """Check what a training reads, and tell a distiller the classes of its labels.

    Args:
        config: The training config, for its ``val_dataloader``.
        dataset: The training set.
        used: Names of its sources that batches draw from.
        model: What is trained.

    Raises:
        ConfigError: When the distiller was told other classes than those of the labels.
        DataError: When images are missing, validation data cannot be read or are wrong, or labelled, unlabelled and
            validation images overlap.
    """
    evaluated = check_loader_data(config, 'val_dataloader')
    sources = _files(dataset, used)
    labeled = {name: files for name, files in sources.items() if name == _source(LABELED)}
    for name, files in sources.items():
        check_disjoint({**labeled, name: files})
        check_disjoint({name: files, 'val_dataloader': evaluated})
    _settle_classes(model, getattr(dataset, 'metainfo', {}).get('classes'))


def check_loader_data(config: Mapping[str, Any], key: str) -> list[str]:
    """Read the data set of a loader once, before anything is built on it.

    Args:
        config: Training or test config.
        key: ``train_dataloader``, ``val_dataloader`` or ``test_dataloader``.

    Returns:
        Paths of its images; none for what is no plain mm dataset of images, which is not looked at. A
        ``castkd.SourceDataset`` checks itself.

    Raises:
        DataError: When it cannot be read, or its annotations are wrong, or images are missing.
    """
    dataset = (config.get(key) or {}).get('dataset')
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmengine'):
        if not isinstance(dataset, Mapping) or not _is_plain(dataset['type']):
            return []
        # To serialise, mmengine collects garbage, which takes seconds.
        changes = {'pipeline': [], 'lazy_init': True, 'serialize_data': False}
        built = DATASETS.build({**dataset, **changes})
    reading = read_dataset(f'{key}.dataset', built)
    reading.check()
    files = resolved(image_root(built), reading.names)
    if is_local(built):
        check_files(f'{key}.dataset', files)
    return files


def _is_plain(kind: str | type) -> bool:
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return inspect.isclass(kind) and issubclass(kind, BaseDataset)


def _source(name: str) -> str:
    return f'source {name!r}'


def _files(dataset: Dataset, used: Collection[str]) -> dict[str, list[str]]:
    """Return the paths of the images per source; of a dataset without sources, as ``train_dataloader``."""
    if isinstance(dataset, BaseDataset) and 'img_path' in dataset.get_data_info(0):
        return {'train_dataloader': image_files(dataset)}
    if not isinstance(dataset, SourceDataset):
        return {}
    found = {}
    for name in used:
        source = dataset.datasets[name]
        found[_source(name)] = image_files(source)
        if is_local(source) and not isinstance(source, ImageFolder):
            check_files(_source(name), found[_source(name)])
    return found


def _settle_classes(model: nn.Module, classes: Collection[str] | None) -> None:
    """Let teachers be compared with the classes of the labels, also where the config does not repeat them."""
    if classes is None or not hasattr(model, 'teachers'):
        return
    if model.classes is None:
        model.classes = tuple(classes)
    if model.classes != tuple(classes):
        raise ConfigError(
            f'model.classes are {model.classes}, but the training data have {tuple(classes)}; '
            'make them equal, in the same order'
        )
    _check_outputs(getattr(model, 'student', None), len(classes))


def _check_outputs(student: nn.Module | None, count: int) -> None:
    """Refuse a segmentor with another number of outputs: a label could be an index behind the last one."""
    outputs = getattr(student, 'num_classes', None) if hasattr(student, 'decode_head') else None
    if outputs is not None and outputs != count:
        raise ConfigError(
            f'model.student.decode_head.num_classes is {outputs}, but the training data have {count} classes; make '
            'them equal'
        )
