"""Objects of Pascal VOC, several years in one dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from xml.etree.ElementTree import ElementTree, ParseError

from mmdet.datasets import VOCDataset

from castkd.checks import check_file
from castkd.errors import ConfigError, DataError, in_words, near_names
from castkd.registry import DATASETS

_SLACK = 1  # pixels by which the boxes of VOC may leave an image


@DATASETS.register_module()
class VOCYears(VOCDataset):
    """mmdet's ``VOCDataset`` over one or more years, such as the union of 2007 and 2012 that detectors are trained on.

    mmdet would concatenate two data sets; a split into labelled and other images needs one. Images are named from
    ``data_root`` on: ``VOC2007/JPEGImages/000005.jpg``.

    Args:
        data_root: Folder ``VOCdevkit``, with a folder per year.
        years: Those folders.
        subset: File of ``ImageSets/Main`` in every year, without its ending: ``trainval``, ``test``, ...
        **options: ``pipeline``, ``filter_cfg``, ``lazy_init``, ... of mmdet's dataset.

    Raises:
        ConfigError: When no year is given, or what the years tell is given otherwise.
    """

    def __init__(
        self,
        data_root: str = '',
        years: Sequence[str] = ('VOC2007', 'VOC2012'),
        subset: str = 'trainval',
        **options: object,
    ) -> None:
        taken = sorted(options.keys() & {'ann_file', 'data_prefix'})
        if taken or not years or isinstance(years, str):
            raise ConfigError(
                f"VOCYears: give years, a list such as ['VOC2007'], got {years!r}; they and subset say where images "
                f'and annotations are, so {", ".join(taken) or "ann_file"} is not given'
            )
        self.years = tuple(years)
        self.subset = subset
        super().__init__(data_root=data_root, ann_file='', data_prefix={}, **options)

    def load_data_list(self) -> list[dict]:
        """Read the annotations of all years, one after the other.

        Raises:
            DataError: When a year lacks the list of the subset.
        """
        found = []
        for year in self.years:
            folder = os.path.join(self.data_root, year)
            self.data_prefix = {'sub_data_root': folder}
            self.ann_file = os.path.join(folder, 'ImageSets', 'Main', f'{self.subset}.txt')
            check_file('VOCYears', 'list of images', self.ann_file)
            found += super().load_data_list()
        return found

    def parse_data_info(self, img_info: dict) -> dict:
        """Read the annotation of one image.

        Raises:
            DataError: When the file is missing or damaged, an object is of no known class, or a box is inverted or
                leaves the image.
        """
        path = img_info['xml_path']
        check_file('VOCYears', 'annotation', path)
        try:
            found = super().parse_data_info(img_info)
        except KeyError as error:
            name = error.args[0]
            raise DataError(
                f'VOCYears: annotation {path!r} has an object {name!r}, which is no class; '
                f'{near_names(str(name), self._known_names)}'
            ) from error
        except (ParseError, AttributeError, TypeError, ValueError) as error:
            raise DataError(
                f'VOCYears: annotation {path!r} cannot be read ({in_words(error)}); mend it, or fetch it '
                'again'
            ) from error
        for instance in found['instances']:
            left, top, right, bottom = instance['bbox']
            within = min(left, top) >= -_SLACK and (
                right <= found['width'] + _SLACK and bottom <= found['height'] + _SLACK
            )
            # VOC counts the last pixel in, so equal sides are one pixel.
            if not (within and left <= right and top <= bottom):
                raise DataError(
                    f'VOCYears: annotation {path!r} has a box {instance["bbox"]} (x1, y1, x2, y2) that is '
                    f'inverted or leaves its image of {found["width"]} x {found["height"]} pixels; mend it'
                )
        return found

    def _parse_instance_info(self, raw_ann_info: ElementTree, minus_one: bool = True) -> list[dict]:
        """Read the objects, without those of VOC's classes that are not among the dataset's.

        Raises:
            KeyError: With the name of an object that is of neither.
        """
        known = self._known_names
        for item in raw_ann_info.findall('object'):
            name = item.find('name').text
            if name not in known:
                raise KeyError(name)
        return super()._parse_instance_info(raw_ann_info, minus_one)

    @property
    def _known_names(self) -> set[str]:
        return {*VOCDataset.METAINFO['classes'], *self.metainfo['classes']}
