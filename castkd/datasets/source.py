"""Training data as named sources: few labelled images, many unlabelled ones, each with its own pipeline."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import Dataset

from castkd.datasets.splits import (
    IMAGE_SUFFIXES,
    Split,
    check_disjoint,
    list_images,
    make_split,
)
from castkd.errors import CastkdError, ConfigError, DataError
from castkd.registry import DATASETS

LABELED = 'labeled'
# How many images in a row a pipeline may turn down (mmdet returns None when a crop lost every box).
MAX_TRIES = 20


class Draw(NamedTuple):
    """One item that a sampler asks for.

    Attributes:
        source: Name of the source.
        index: Index of the image in the source.
        seed: Seed of the item's augmentation, in [0, 2**32).
    """

    source: str
    index: int
    seed: int


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images below a folder; there is no annotation file, so nothing can be read from one.

    Every item has an empty ``instances`` list, so the pipelines of labelled data run on it as well.

    Args:
        data_root: Folder of images, or what ``data_prefix`` is relative to.
        data_prefix: ``dict(img=folder)``.
        metainfo: Classes and palette, where a pipeline or picture needs them.
        suffixes: Endings of image files.
        **options: ``pipeline``, ``indices``, ``lazy_init``, ... of mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        suffixes: Iterable[str] = IMAGE_SUFFIXES,
        **options: object,
    ) -> None:
        if options.pop('ann_file', ''):
            raise ConfigError(
                'ImageFolder: ann_file has no use here, a folder has no annotations; remove the key'
            )
        self.suffixes = tuple(suffixes)
        prefix = {'img': ''} if data_prefix is None else data_prefix
        super().__init__(data_root=data_root, data_prefix=prefix, metainfo=metainfo, **options)

    def load_data_list(self) -> list[dict]:
        """List the images, sorted by name.

        Raises:
            DataError: When the folder is missing or holds no image.
        """
        root = self.data_prefix['img']
        return [
            {
                'img_path': os.path.join(root, name),
                'img_id': index,
                'instances': [],
                'seg_fields': [],
            }
            for index, name in enumerate(list_images(root, self.suffixes))
        ]


@DATASETS.register_module()
class SourceDataset(Dataset):
    """Named datasets side by side, one of them reduced to its labelled images.

    With a split, the source ``labeled`` keeps the labelled images only. An :class:`ImageFolder` beside
    it loses them; any other dataset (a COCO file of pseudo-labels, say) is kept as it is but must not
    contain them. The split is drawn before a dataset filters by annotation, so the labels of the pool
    have no say in it.

    Items are asked for by :class:`Draw` and depend on it alone: the random states of python, numpy and
    torch are set from the draw's seed while the pipeline runs and put back afterwards, so neither workers
    nor their order play a role. (A transform that keeps a random state of its own is out of reach.)

    Args:
        sources: Dataset, or its config, per name. Datasets are mmengine ``BaseDataset`` of any project.
        split: One of ``fraction`` (share in (0, 1]), ``count``, ``list_file`` (text file of labelled images)
            or ``file`` (made by tools/make_splits.py); ``seed`` belongs to the first two. None leaves the
            sources as they are.

    Raises:
        ConfigError: When sources or split are malformed.
        DataError: When a source is empty or cannot be read, the labelled one has no object, or images overlap.
    """

    def __init__(
        self, sources: Mapping[str, dict | BaseDataset], split: Mapping[str, object] | None = None
    ) -> None:
        if not sources:
            raise ConfigError('SourceDataset: sources is empty; name at least one dataset')
        self.datasets: dict[str, BaseDataset] = {}
        self.split: Split | None = None
        known = {name: self._add(name, source) for name, source in sources.items()}
        if split is not None:
            if LABELED not in self.datasets:
                raise ConfigError(
                    f'SourceDataset: a split needs a source named {LABELED!r}, got {sorted(sources)}'
                )
            self.split = make_split(known[LABELED], split)
            self._keep_labeled()
            self._leave_out_labeled()
        for name, dataset in self.datasets.items():
            if len(dataset) == 0:
                raise DataError(
                    f'source {name!r} ({_root(dataset)!r}) has no image left; check its split and filter_cfg'
                )
        if LABELED in self.datasets:
            _refuse_objectless(self.datasets[LABELED])

    def _add(self, name: str, source: dict | BaseDataset) -> list[str]:
        """Build and read one source; return the names of its images before any filter by annotation."""
        dataset = (
            DATASETS.build({**source, 'lazy_init': True}) if isinstance(source, dict) else source
        )
        if not isinstance(dataset, BaseDataset):
            raise ConfigError(
                f'source {name!r} is a {type(dataset).__name__}; give plain mm datasets and one source per dataset '
                'instead of a wrapper'
            )
        self.datasets[name] = dataset
        return _read(name, dataset)

    def _keep_labeled(self) -> None:
        dataset = self.datasets[LABELED]
        labeled = set(self.split.labeled)
        # By name, so that streams do not depend on the order in the annotation file.
        order = sorted((name, index) for index, name in enumerate(image_names(dataset)))
        kept = [index for name, index in order if name in labeled]
        dataset.get_subset_(kept)
        if len(kept) < len(labeled):
            print_log(
                f'{len(labeled) - len(kept)} of {len(labeled)} labeled images are left out by filter_cfg or indices',
                logger='current',
            )

    def _leave_out_labeled(self) -> None:
        """Take the labelled images out of folders, by path or name, and refuse them in other sources."""
        root = _root(self.datasets[LABELED])
        labeled = set(self.split.labeled)
        paths = {os.path.join(os.path.realpath(root), name) for name in labeled}
        folders = []
        matched = 0
        for name, dataset in self.datasets.items():
            if isinstance(dataset, ImageFolder) and name != LABELED:
                folders.append(_root(dataset))
                pairs = zip(image_names(dataset), image_files(dataset), strict=True)
                kept = [
                    i
                    for i, (item, path) in enumerate(pairs)
                    if item not in labeled and path not in paths
                ]
                matched += len(dataset) - len(kept)
                dataset.get_subset_(kept)
            elif name != LABELED:
                check_disjoint({LABELED: paths, f'source {name!r}': image_files(dataset)})
        if folders and not matched:
            raise DataError(
                f'none of the {len(labeled)} labeled images below {root!r} is among the unlabeled ones below '
                f'{", ".join(map(repr, folders))}; give both the same root, or, for separate collections, reduce the '
                'labeled source by its own ann_file or indices and leave split out'
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images per source."""
        return {name: len(dataset) for name, dataset in self.datasets.items()}

    @property
    def metainfo(self) -> dict:
        """Classes and palette of the labelled source, or of the first one."""
        return self.datasets.get(LABELED, next(iter(self.datasets.values()))).metainfo

    def describe(self, counts: Mapping[str, int], world_size: int = 1) -> str:
        """Say in words what a training step takes.

        Args:
            counts: Images per source in one batch of one process.
            world_size: Number of processes.

        Returns:
            For instance ``per step 2 labeled + 6 unlabeled; one pass over the unlabeled = 245 steps``.
        """
        used = {name: count for name, count in counts.items() if count}
        passes = {
            name: math.ceil(self.sizes[name] / (count * world_size)) for name, count in used.items()
        }
        longest = max(passes, key=passes.get)
        step = ' + '.join(f'{count} {name}' for name, count in used.items())
        where = f' on each of {world_size} processes' if world_size > 1 else ''
        return f'per step {step}{where}; one pass over the {longest} = {passes[longest]} steps'

    def __len__(self) -> int:
        """Return the number of images of all sources."""
        return sum(self.sizes.values())

    def __getitem__(self, key: Draw) -> object:
        """Return one item as the source's pipeline makes it.

        When the pipeline turns an image down, the next ones are tried with the random stream going on.

        Raises:
            ConfigError: When the key is no :class:`Draw`.
            DataError: When an image cannot be prepared, or the pipeline turns down too many in a row.
        """
        if not isinstance(key, tuple):
            raise ConfigError(
                f'SourceDataset is read by Draw(source, index, seed), got {key!r}; use castkd.RatioBatchSampler as '
                'batch_sampler of the dataloader'
            )
        source, index, seed = key
        dataset = self.datasets[source]
        with seeded(seed):
            for offset in range(MAX_TRIES):
                item = _prepare(source, dataset, (index + offset) % len(dataset))
                if item is not None:
                    return item
        raise DataError(
            f'source {source!r}: its pipeline returned nothing for image {image_files(dataset, [index])[0]!r} and the '
            f'{MAX_TRIES - 1} after it; loosen the transforms that drop objects (crop, filter)'
        )


def image_names(dataset: BaseDataset) -> list[str]:
    """Return the names of a dataset's images relative to its image root."""
    root = _root(dataset)
    return [_relative(dataset.get_data_info(index), root) for index in range(len(dataset))]


def image_files(dataset: BaseDataset, indices: Iterable[int] | None = None) -> list[str]:
    """Return paths that are equal for equal image files, whatever root they are reached by.

    Args:
        dataset: Any mm dataset.
        indices: Images of interest; None means all.
    """
    root = _root(dataset)
    start = os.path.realpath(root)
    indices = range(len(dataset)) if indices is None else indices
    names = (_relative(dataset.get_data_info(index), root) for index in indices)
    return [os.path.normpath(os.path.join(start, name)) for name in names]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the CPU random states of python, numpy and torch from a seed, and put them back at the end.

    Args:
        seed: In [0, 2**32).
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _root(dataset: BaseDataset) -> str:
    """Return the image root: mmdet calls it ``img``, mmseg ``img_path``."""
    prefix = dataset.data_prefix
    return prefix.get('img') or prefix.get('img_path') or dataset.data_root or ''


def _relative(info: dict, root: str) -> str:
    return os.path.relpath(info['img_path'], root or '.').replace(os.sep, '/')


def _read(name: str, dataset: BaseDataset) -> list[str]:
    """Initialise a dataset; return its image names before its own filter, or after it where ``indices`` chose some.

    Filters look at annotations. Were the split drawn after them, the labels of the pool would have a say in it.
    """
    if dataset._fully_initialized:
        return image_names(dataset)
    names: list[str] = []
    filter_data = dataset.filter_data

    def recording_filter() -> list[dict]:
        root = _root(dataset)
        names.extend(_relative(info, root) for info in dataset.data_list)
        kept = filter_data()
        if not kept:
            raise DataError(
                f'source {name!r}: none of its {len(names)} images is left by filter_cfg; check annotations'
            )
        return kept

    dataset.filter_data = recording_filter
    try:
        dataset.full_init()
    except CastkdError:
        raise
    except (OSError, ValueError, LookupError, AssertionError) as error:
        where = dataset.ann_file or _root(dataset)
        raise DataError(
            f'source {name!r}: {where!r} cannot be read ({type(error).__name__}: {error}); check data_root and ann_file'
        ) from error
    finally:
        del dataset.filter_data
    return names if dataset._indices is None else image_names(dataset)


def _prepare(source: str, dataset: BaseDataset, index: int) -> object:
    try:
        return dataset.prepare_data(index)
    except CastkdError:
        raise
    except Exception as error:
        path = dataset.get_data_info(index)['img_path']
        raise DataError(
            f'source {source!r}: image {path!r} cannot be prepared ({type(error).__name__}: {error}); check its '
            'annotation and the pipeline'
        ) from error


def _refuse_objectless(dataset: BaseDataset) -> None:
    """Refuse labels without any object; semantic maps are not opened."""
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'instances' not in info or any(
            not item.get('ignore_flag') for item in info['instances']
        ):
            return
    where = dataset.ann_file or _root(dataset)
    raise DataError(
        f'source {LABELED!r}: none of its {len(dataset)} images has an object ({where!r}); '
        'check the annotation file, metainfo.classes and the split'
    )
