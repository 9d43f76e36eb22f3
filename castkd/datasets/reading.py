"""Reading an mm dataset, with errors that name file and cure, and what its images are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mmengine.dataset import BaseDataset
from pycocotools.coco import COCO

from castkd.datasets.annotations import check_annotations, check_categories
from castkd.errors import CastkdError, DataError, in_words


@dataclass
class Reading:
    """What was seen while a dataset was read.

    Attributes:
        owner: The dataset's place and annotation file, for errors.
        names: Names of its images relative to the image root, before its own filter, or after it where ``indices``
            chose some. Filters look at annotations; were a split drawn after them, the labels of the pool would have a
            say in it.
        image_ids: Id per name, where there are any.
        coco: The content of a COCO file; None for other datasets.
        label_maps: File per name, where labels are maps on this machine.
    """

    owner: str
    names: list[str] = field(default_factory=list)
    image_ids: dict[str, int] = field(default_factory=dict)
    coco: COCO | None = None
    label_maps: dict[str, str] = field(default_factory=dict)

    def check(self, names: Iterable[str] | None = None) -> None:
        """Check the annotations of the images ``names``; None for all that are in use. Label maps are not opened.

        Raises:
            DataError: See :func:`~castkd.datasets.annotations.check_annotations`, or when a label map is missing.
        """
        names = list(self.names if names is None else names)
        if self.coco is not None:
            check_annotations(self.owner, self.coco, [self.image_ids[name] for name in names])
        if self.label_maps:
            check_files(self.owner, [self.label_maps[name] for name in names], 'label maps')


def read_dataset(owner: str, dataset: BaseDataset) -> Reading:
    """Initialise a dataset.

    Args:
        owner: What it is, such as ``source 'labeled'``, for errors.
        dataset: Any mm dataset, lazy; one that is initialised already is not read again.

    Raises:
        DataError: When it cannot be read, has no image, or lacks a class.
    """
    where = dataset.ann_file or image_root(dataset)
    reading = Reading(f'{owner}: {where!r}')
    if dataset._fully_initialized:
        reading.names = image_names(dataset)
        return reading
    with _watched(dataset, reading):
        try:
            dataset.full_init()
        except CastkdError:
            raise
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            AssertionError,
        ) as error:
            reason = getattr(error, 'strerror', None) or in_words(error)
            raise DataError(
                f'{reading.owner} cannot be read ({reason}); check data_root and ann_file'
            ) from error
    if dataset._indices is not None:
        reading.names = image_names(dataset)
    return reading


@contextmanager
def _watched(dataset: BaseDataset, reading: Reading) -> Iterator[None]:
    """Note what a dataset knows for a moment only: all its images, and the COCO file that they come from."""
    filter_data, coco_type = dataset.filter_data, getattr(dataset, 'COCOAPI', None)

    def read_coco(*arguments: object, **options: object) -> COCO:
        reading.coco = coco_type(*arguments, **options)
        return reading.coco

    def filter_known() -> list[dict]:
        if reading.coco is not None:
            check_categories(reading.owner, reading.coco, dataset.metainfo['classes'])
        _note_images(dataset, reading)
        kept = filter_data()
        if not kept:
            reading.check()
            raise DataError(
                f'{reading.owner}: none of its {len(dataset.data_list)} images is left by filter_cfg; check annotations'
            )
        return kept

    dataset.filter_data = filter_known
    if coco_type is not None:
        dataset.COCOAPI = read_coco
    try:
        yield
    finally:
        del dataset.filter_data
        if coco_type is not None:
            del dataset.COCOAPI


def _note_images(dataset: BaseDataset, reading: Reading) -> None:
    """Note the names of a dataset's images, and where their ids and label maps are."""
    root, local = image_root(dataset), is_local(dataset)
    for info in dataset.data_list:
        if 'img_path' not in info:
            continue
        name = _relative(info, root)
        reading.names.append(name)
        reading.image_ids[name] = info.get('img_id')
        if local and info.get('seg_map_path'):
            reading.label_maps[name] = info['seg_map_path']
    if not dataset.data_list:
        ending = getattr(dataset, 'img_suffix', '')
        which = f' that ends in {ending!r}' if ending else ''
        raise DataError(f'{reading.owner} has no image{which}; check data_root and data_prefix')


def image_names(dataset: BaseDataset) -> list[str]:
    """Return the names of a dataset's images relative to its image root."""
    root = image_root(dataset)
    return [_relative(dataset.get_data_info(index), root) for index in range(len(dataset))]


def image_files(dataset: BaseDataset, indices: Iterable[int] | None = None) -> list[str]:
    """Return paths that are equal for equal image files, whatever root they are reached by.

    Args:
        dataset: Any mm dataset.
        indices: Images of interest; None means all.
    """
    root = image_root(dataset)
    indices = range(len(dataset)) if indices is None else indices
    return resolved(root, (_relative(dataset.get_data_info(index), root) for index in indices))


def resolved(root: str, names: Iterable[str]) -> list[str]:
    """Return the paths of images below a root, the links of the root followed."""
    start = os.path.realpath(root)
    return [os.path.normpath(os.path.join(start, name)) for name in names]


def check_files(owner: str, files: Sequence[str], what: str = 'images') -> None:
    """Refuse images that are not there.

    Args:
        owner: The dataset's place, for the error.
        files: Local paths.
        what: What they are, for the error.

    Raises:
        DataError: When a file is missing; tells the number and one example.
    """
    missing = [path for path in files if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f'{owner}: {len(missing)} of {len(files)} {what} do not exist, for example {missing[0]!r}; '
            'check data_root, data_prefix and the annotation file'
        )


def is_local(dataset: BaseDataset) -> bool:
    """Tell whether a dataset's images are files of this machine."""
    return not getattr(dataset, 'backend_args', None) and '://' not in image_root(dataset)


def image_root(dataset: BaseDataset) -> str:
    """Return the image root: mmdet calls it ``img``, mmseg ``img_path``."""
    prefix = dataset.data_prefix
    return prefix.get('img') or prefix.get('img_path') or dataset.data_root or ''


def _relative(info: dict, root: str) -> str:
    return os.path.relpath(info['img_path'], root or '.').replace(os.sep, '/')
