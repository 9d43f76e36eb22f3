"""Label maps that a segmentor made: how they are stored, and a data set that reads them.

labels.json                     which images, which classes, where the maps are, where they come from
labels.maps/labels/NAME.png     class index per pixel, 255 where the model was not sure enough
labels.maps/confidence/NAME.png probability of the most likely class, 0 to 255 for 0 to 1
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.dataset import BaseDataset

from castkd.checks import check_file, check_number
from castkd.datasets.splits import refuse_repeated
from castkd.errors import ConfigError, DataError, in_words
from castkd.registry import DATASETS

FORMAT = 'castkd label maps, version 1'


def map_files(out: str | Path, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return where the label map and the confidence of every image go, relative to the folder of ``out``.

    Args:
        out: The JSON file.
        names: Image names relative to their folder.

    Raises:
        DataError: When two images differ in their ending only.
    """
    folder = f'{Path(out).stem}.maps'
    plain = {name: PurePosixPath(name).with_suffix('.png') for name in names}
    refuse_repeated('images, without their ending,', map(str, plain.values()))
    return {
        name: (f'{folder}/labels/{file}', f'{folder}/confidence/{file}')
        for name, file in plain.items()
    }


def maps_content(
    images: Iterable[Mapping[str, Any]], classes: Sequence[str], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of the JSON file.

    Args:
        images: Per image ``file_name``, ``width``, ``height``, ``labels``, ``confidence`` (files relative to the JSON
            file), ``labels_sha256`` and ``pixels``, the number of labelled pixels per class.
        classes: Class names in the order of the indices.
        info: Where the labels come from; counts are added.
    """
    images = list(images)
    pixels = sum(image['width'] * image['height'] for image in images)
    per_class = {
        name: sum(image['pixels'][index] for image in images) for index, name in enumerate(classes)
    }
    labelled = sum(per_class.values())
    info = {
        'format': FORMAT,
        **info,
        'num_images': len(images),
        'num_images_without_labels': sum(not any(image['pixels']) for image in images),
        'labelled_share': labelled / pixels if pixels else 0.0,
        'share_per_class': {
            name: count / labelled if labelled else 0.0 for name, count in per_class.items()
        },
    }
    return {'info': info, 'classes': list(classes), 'images': images}


@dataclass(frozen=True)
class PseudoMaps:
    """Content of a file of label maps.

    Attributes:
        info: Where they come from, and counts.
        classes: Class names in the order of the indices.
        images: See :func:`maps_content`; ``labels`` and ``confidence`` are whole paths.
    """

    info: dict[str, Any]
    classes: tuple[str, ...]
    images: list[dict[str, Any]]


def read_pseudo_maps(path: str | Path) -> PseudoMaps:
    """Read a file of label maps; the maps are not opened.

    Raises:
        DataError: When it is missing, damaged or of another format.
    """
    path = check_file('pseudo-labels', 'file', path, 'make it with tools/pseudo_label.py')
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        known = content['info'].get('format')
        classes = tuple(content['classes'])
        images = [
            {**image, **{key: str(path.parent / image[key]) for key in ('labels', 'confidence')}}
            for image in content['images']
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{str(path)!r} holds no label maps or is damaged ({in_words(error)}); make it with '
            'tools/pseudo_label.py and a segmentor'
        ) from error
    if known != FORMAT:
        raise DataError(
            f'{str(path)!r} has format {known!r}, this castkd reads {FORMAT!r}; make it again with '
            'tools/pseudo_label.py'
        )
    return PseudoMaps(content['info'], classes, images)


@DATASETS.register_module()
class PseudoMapDataset(BaseDataset):
    """Images with the label maps that ``tools/pseudo_label.py`` made of them.

    Args:
        ann_file: The JSON file of the tool.
        score_thr: Pixels need a probability above it, in [0, 1], as far as the 256 steps of a confidence map tell; it
            cannot be below the threshold of the labelling, which left no class there. None takes the maps as they are.
        data_prefix: ``dict(img=folder)``, the folder that the names in the file are relative to.
        metainfo: ``classes``, compared with those of the file, and palette.
        **options: ``data_root``, ``pipeline``, ``indices``, ... of mmengine's ``BaseDataset``.

    Raises:
        ConfigError: When ``score_thr`` is out of its range, or the file has other classes or a higher threshold.
        DataError: When the file is missing, damaged or of another format.
    """

    def __init__(self, *args: Any, score_thr: float | None = None, **options: Any) -> None:  # noqa: ANN401
        if score_thr is not None:
            check_number('PseudoMapDataset', 'score_thr', score_thr, low=0, high=1)
        self.score_thr = score_thr
        super().__init__(*args, **options)

    def load_data_list(self) -> list[dict]:
        """List the images with their maps.

        Raises:
            ConfigError: When the file has other classes than ``metainfo.classes``, or was made with a higher threshold.
            DataError: When the file is missing, damaged or of another format.
        """
        content = read_pseudo_maps(self.ann_file)
        classes = tuple(self.metainfo.get('classes') or content.classes)
        if classes != content.classes:
            raise ConfigError(
                f'PseudoMapDataset: {self.ann_file!r} has labels of {content.classes}, metainfo.classes are {classes}; '
                'label with a model of the same classes'
            )
        self._metainfo['classes'] = classes
        made = content.info.get('options', {}).get('score_thr', 0.0)
        if self.score_thr is not None and self.score_thr < made:
            raise ConfigError(
                f'PseudoMapDataset: score_thr={self.score_thr}, but the maps of {self.ann_file!r} were made with '
                f'{made} and have no class below it; raise score_thr, or label again'
            )
        return [
            {
                'img_path': os.path.join(self.data_prefix['img'], image['file_name']),
                'seg_map_path': image['labels'],
                'seg_fields': [],
                'reduce_zero_label': False,
                'label_map': None,
                **self._threshold(image),
            }
            for image in content.images
        ]

    def _threshold(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """Return what makes the loader of the map leave out unsure pixels."""
        if self.score_thr is None:
            return {}
        return {'confidence_path': image['confidence'], 'score_thr': self.score_thr}
