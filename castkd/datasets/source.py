"""Training data as named sources: few labelled images, many unlabelled ones, each with its own pipeline."""

from __future__ import annotations

import filecmp
import math
import os
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from torch.utils.data import Dataset

from castkd.checks import check_file
from castkd.datasets.reading import (
    Reading,
    check_files,
    image_files,
    image_names,
    image_root,
    read_dataset,
    resolved,
)
from castkd.datasets.splits import (
    IMAGE_SUFFIXES,
    Split,
    check_disjoint,
    list_images,
    make_split,
)
from castkd.errors import CastkdError, ConfigError, DataError, in_words
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
        names: Text file with the only images to take, one name per line, relative to the image folder and without its
            ending, as mmseg lists images; None takes all. The path is relative to ``data_root``.
        **options: ``pipeline``, ``indices``, ``lazy_init``, ... of mmengine's ``BaseDataset``.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        suffixes: Iterable[str] = IMAGE_SUFFIXES,
        names: str | None = None,
        **options: object,
    ) -> None:
        if options.pop('ann_file', ''):
            raise ConfigError(
                'ImageFolder: ann_file has no use here, a folder has no annotations; remove the key'
            )
        self.suffixes = tuple(suffixes)
        self.names = names and os.path.join(data_root, names)
        prefix = {'img': ''} if data_prefix is None else data_prefix
        super().__init__(data_root=data_root, data_prefix=prefix, metainfo=metainfo, **options)

    def load_data_list(self) -> list[dict]:
        """List the images, sorted by name.

        Raises:
            DataError: When the folder is missing or holds no image, or a listed image is not there.
        """
        root = self.data_prefix['img']
        found = list_images(root, self.suffixes)
        if self.names is not None:
            found = _listed(found, root, self.names)
        return [
            {
                'img_path': os.path.join(root, name),
                'img_id': index,
                'instances': [],
                'seg_fields': [],
            }
            for index, name in enumerate(found)
        ]


def _listed(found: Iterable[str], root: str, names: str) -> list[str]:
    """Return the images that a text file names without their ending."""
    path = check_file('ImageFolder', 'names', names)
    wanted = dict.fromkeys(filter(None, map(str.strip, path.read_text('utf-8').splitlines())))
    images = {os.path.splitext(name)[0]: name for name in found}
    missing = [name for name in wanted if name not in images]
    if missing:
        raise DataError(
            f'ImageFolder: {len(missing)} of {len(wanted)} images that {names!r} lists are not below {root!r}, for '
            f'example {missing[0]!r}; check data_prefix and the list'
        )
    return sorted(images[name] for name in wanted)


@DATASETS.register_module()
class SourceDataset(Dataset):
    """Named datasets side by side, one of them reduced to its labelled images.

    With a split, the source ``labeled`` keeps the labelled images only. An :class:`ImageFolder` beside
    it loses them, and copies of them under the same name; any other dataset (a COCO file of pseudo-labels,
    say) is kept as it is but must not contain them. A folder that has no image left then is refused by the
    sampler, if batches take images from it. The split is drawn before a dataset filters by annotation, so
    the labels of the pool have no say in it. COCO annotations of labelled images are checked.

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
        DataError: When a source is empty or cannot be read, annotations are wrong, the labelled one has no object, or
            images overlap.
    """

    def __init__(
        self, sources: Mapping[str, dict | BaseDataset], split: Mapping[str, object] | None = None
    ) -> None:
        if not sources:
            raise ConfigError('SourceDataset: sources is empty; name at least one dataset')
        self.datasets: dict[str, BaseDataset] = {}
        self.split: Split | None = None
        readings = {name: self._add(name, source) for name, source in sources.items()}
        if split is not None:
            if LABELED not in self.datasets:
                raise ConfigError(
                    f'SourceDataset: a split needs a source named {LABELED!r}, got {sorted(sources)}'
                )
            self.split = make_split(readings[LABELED].names, split)
        for name, reading in readings.items():
            # The labels of the pool are none of our business.
            reading.check(self.split.labeled if self.split and name == LABELED else None)
        if self.split is not None:
            self._keep_labeled()
            self._leave_out_labeled()
        if LABELED in self.datasets:
            _refuse_objectless(self.datasets[LABELED])

    def _add(self, name: str, source: dict | BaseDataset) -> Reading:
        """Build and read one source."""
        dataset = (
            DATASETS.build({**source, 'lazy_init': True}) if isinstance(source, dict) else source
        )
        if not isinstance(dataset, BaseDataset):
            raise ConfigError(
                f'source {name!r} is a {type(dataset).__name__}; give plain mm datasets and one source per dataset '
                'instead of a wrapper'
            )
        self.datasets[name] = dataset
        return read_dataset(f'source {name!r}', dataset)

    def _keep_labeled(self) -> None:
        dataset = self.datasets[LABELED]
        labeled = set(self.split.labeled)
        # By name, so that streams do not depend on the order in the annotation file.
        order = sorted((name, index) for index, name in enumerate(image_names(dataset)))
        kept = [index for name, index in order if name in labeled]
        if not kept:
            raise DataError(
                f'source {LABELED!r}: none of its {len(labeled)} labeled images is left by filter_cfg; check the split '
                f'and the annotations ({dataset.ann_file or image_root(dataset)!r})'
            )
        dataset.get_subset_(kept)
        if len(kept) < len(labeled):
            print_log(
                f'{len(labeled) - len(kept)} of {len(labeled)} labeled images are left out by filter_cfg or indices',
                logger='current',
            )

    def _leave_out_labeled(self) -> None:
        """Take the labelled images, and copies of them, out of folders, and refuse them in other sources."""
        root = image_root(self.datasets[LABELED])
        paths = dict(zip(self.split.labeled, resolved(root, self.split.labeled), strict=True))
        folders, left_out = [], 0
        for name, dataset in self.datasets.items():
            if isinstance(dataset, ImageFolder) and name != LABELED:
                folders.append(image_root(dataset))
                left_out += _leave_out(name, dataset, paths)
            elif name != LABELED:
                files = image_files(dataset)
                check_disjoint({LABELED: paths.values(), f'source {name!r}': files})
        if folders and not left_out:
            check_files(f'source {LABELED!r}', list(paths.values()))
            raise DataError(
                f'none of the {len(paths)} labeled images below {root!r} is among the unlabeled ones below '
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

    def keep_views(self, names: Collection[str]) -> list[str]:
        """Have the pipelines make no views behind the last of these names.

        Views are made one after another from one stream of random numbers, so that those before it stay. A pipeline
        that has none of the names stays as it is.

        Returns:
            The views that are made no more, sorted.
        """
        left_out = set()
        for dataset in self.datasets.values():
            for transform in dataset.pipeline.transforms:
                # Those of mmdet's MultiBranch.
                branches = getattr(transform, 'branch_pipelines', {})
                if branches.keys() & set(names):
                    while (last := next(reversed(branches))) not in names:
                        left_out.add(last)
                        del branches[last]
        return sorted(left_out)

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


def _prepare(source: str, dataset: BaseDataset, index: int) -> object:
    try:
        return dataset.prepare_data(index)
    except CastkdError:
        raise
    except Exception as error:
        path = dataset.get_data_info(index)['img_path']
        raise DataError(
            f'source {source!r}: image {path!r} cannot be prepared ({in_words(error)}); check its '
            'annotation and the pipeline'
        ) from error


def _leave_out(name: str, folder: ImageFolder, labeled: Mapping[str, str]) -> int:
    """Take labelled images out of a folder; return how many there were.

    Args:
        name: The source.
        folder: Its dataset.
        labeled: Path per name of the labelled images. An image of such a name elsewhere is left out when it is a copy.
    """
    paths = set(labeled.values())
    kept, namesakes = [], 0
    names = image_names(folder)
    files = resolved(image_root(folder), names)
    for index, (item, path) in enumerate(zip(names, files, strict=True)):
        if path in paths or (item in labeled and _is_copy(path, labeled[item])):
            continue
        kept.append(index)
        namesakes += item in labeled
    if namesakes:
        print_log(
            f'source {name!r}: {namesakes} images have the name of a labeled one but another content; they stay',
            'current',
        )
    left_out = len(folder) - len(kept)
    folder.get_subset_(kept)
    return left_out


def _is_copy(path: str, original: str) -> bool:
    try:
        return filecmp.cmp(path, original, shallow=False)
    except OSError:
        # What cannot be read is told when it is trained on; until then the name decides.
        return True


def _refuse_objectless(dataset: BaseDataset) -> None:
    """Refuse labels without any object; semantic maps are not opened."""
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'instances' not in info or any(
            not item.get('ignore_flag') for item in info['instances']
        ):
            return
    where = dataset.ann_file or image_root(dataset)
    raise DataError(
        f'source {LABELED!r}: none of its {len(dataset)} images has an object ({where!r}); '
        'check the annotation file, metainfo.classes and the split'
    )
