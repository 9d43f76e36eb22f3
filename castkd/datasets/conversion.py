"""COCO annotation files from maps and masks of other formats, and what it takes to write them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import id2label, labels
from PIL import Image
from pycocotools import mask as coco_mask

from castkd.datasets.pseudo_store import encode_masks
from castkd.errors import DataError
from castkd.files import partial_path, write_file

#: Name of the eight evaluated thing classes of Cityscapes by label id, in the order that mmdet expects.
CITYSCAPES_THINGS = {
    label.id: label.name for label in labels if label.hasInstances and not label.ignoreInEval
}

PNG_END = b'IEND\xaeB`\x82'


@dataclass(frozen=True)
class Instance:
    """One annotated object.

    Attributes:
        category: Category id.
        mask: (H, W) bool.
        crowd: Whether it is a group of objects that nobody told apart.
    """

    category: int
    mask: np.ndarray
    crowd: bool = False


class CocoFile:
    """Content of a COCO annotation file, gathered image by image.

    Annotation ids start at 1: COCO's evaluation takes an object with id 0 for one that was not found.

    Args:
        categories: Name per category id, in the order of the file.
        description: Where the annotations come from.
    """

    def __init__(self, categories: Mapping[int, str], description: str) -> None:
        self.categories = dict(categories)
        self.description = description
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(
        self,
        file_name: str,
        size: tuple[int, int],
        instances: Iterable[Instance],
        image_id: int | None = None,
    ) -> None:
        """Add an image.

        Args:
            file_name: Path relative to the image folder.
            size: (height, width) in pixels.
            instances: Its objects, each with a mask of that size and at least one pixel.
            image_id: Its id; by default its number, counted from 1.
        """
        image_id = len(self.images) + 1 if image_id is None else image_id
        height, width = (int(side) for side in size)
        self.images.append(
            {'id': image_id, 'file_name': file_name, 'width': width, 'height': height}
        )
        for instance in instances:
            (code,) = encode_masks(instance.mask[None])
            self.annotations.append(
                {
                    'id': len(self.annotations) + 1,
                    'image_id': image_id,
                    'category_id': instance.category,
                    'segmentation': code,
                    'bbox': coco_mask.toBbox(code).tolist(),
                    'area': int(coco_mask.area(code)),
                    'iscrowd': int(instance.crowd),
                }
            )

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            'info': {'description': self.description},
            'images': self.images,
            'annotations': self.annotations,
            'categories': [{'id': key, 'name': name} for key, name in self.categories.items()],
        }


def cityscapes_instances(instance_ids: np.ndarray, name: str) -> list[Instance]:
    """Return the objects of a Cityscapes ``instanceIds`` map.

    Args:
        instance_ids: (H, W), label id x 1000 + number for an object, the label id alone for a group or for stuff.
        name: The file's name, for errors.

    Raises:
        DataError: When the map holds an id that Cityscapes does not have.
    """
    instances = []
    for value in np.unique(instance_ids).tolist():
        label = value // 1000 if value >= 1000 else value
        if label not in id2label:
            raise DataError(
                f'{name}: {value} is no Cityscapes instance id; check that it is an instanceIds map'
            )
        if label in CITYSCAPES_THINGS:
            instances.append(Instance(label, instance_ids == value, crowd=value < 1000))
    return instances


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to write into; it becomes ``path`` when the block ends without an error, and is removed otherwise.

    Args:
        path: Folder to make; it must not exist or be empty.

    Raises:
        DataError: When the folder holds something, or cannot be written.
    """
    # Behind links, so that the folder itself is replaced and not the link to it.
    final = Path(path).resolve()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise DataError(f'{str(path)!r} is there already; remove it or choose another folder')
    partial = partial_path(final)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, final)
    except OSError as error:
        raise DataError(
            f'{str(path)!r} cannot be written ({error.strerror or error}); free space there or choose another folder'
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_png(path: str | Path) -> np.ndarray:
    """Return a PNG file as it is stored: (H, W) or (H, W, channels) in OpenCV's order, 8 or 16 bits.

    Raises:
        DataError: When it is missing or damaged.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f'{str(path)!r} cannot be read ({error.strerror or error}); check that the data set is complete'
        ) from error
    # OpenCV returns the upper part of a cut file without a word.
    whole = content.rstrip(b'\x00').endswith(PNG_END)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if whole else None
    if image is None:
        raise DataError(f'{str(path)!r} is no whole PNG file; fetch it again')
    return image


def check_map(path: str | Path, pixels: np.ndarray, image: str | Path, channels: int = 1) -> None:
    """Check that an annotation map has the form it should have and the size of its image.

    Args:
        path: The map's file, for errors.
        pixels: Its content, from :func:`read_png`.
        image: File of its image, of which the header is read.
        channels: 1 for indices, 3 for colours.

    Raises:
        DataError: When it has not, or the image is none.
    """
    found = 1 if pixels.ndim == 2 else pixels.shape[2]
    if found != channels:
        raise DataError(
            f'{str(path)!r} has {found} channels and must have {channels}; take the maps as they are distributed'
        )
    try:
        with Image.open(image) as file:
            width, height = file.size
    except OSError as error:
        raise DataError(f'{str(image)!r} is no image ({error}); fetch it again') from error
    if pixels.shape[:2] != (height, width):
        raise DataError(
            f'{str(path)!r} has {pixels.shape[1]} x {pixels.shape[0]} pixels, its image {str(image)!r} has {width} x '
            f'{height}; take images and annotations of one version'
        )


def describe_coco(content: Mapping[str, Any]) -> str:
    """Return in one line what an annotation file holds: images, objects, groups, the rarest class."""
    names = {item['id']: item['name'] for item in content['categories']}
    counts = dict.fromkeys(names, 0)
    groups = 0
    for item in content['annotations']:
        counts[item['category_id']] += not item['iscrowd']
        groups += item['iscrowd']
    images = len(content['images'])
    empty = images - len({item['image_id'] for item in content['annotations']})
    rarest = min(counts, key=counts.get)
    return (
        f'{images} images ({empty} without an object), {sum(counts.values())} objects of {len(counts)} classes '
        f'(fewest: {names[rarest]} {counts[rarest]}), {groups} groups'
    )


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write a PNG file; unlike ``cv2.imwrite``, a full disk raises OSError."""
    Path(path).write_bytes(cv2.imencode('.png', image)[1].tobytes())


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all; missing folders are made.

    Raises:
        DataError: When it cannot be written.
    """
    write_file(path, json.dumps(content))
