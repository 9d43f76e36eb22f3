"""What may be wrong in a COCO annotation file and mm datasets take without a word."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from castkd.errors import DataError, in_words, near_names


def check_categories(owner: str, coco: COCO, classes: Sequence[str]) -> None:
    """Compare class names with the categories of a file.

    mmdet leaves out classes that the file lacks, and numbers the others in the file's order: labels would get the names
    of other classes.

    Args:
        owner: Where the file is used, and its name, for the error.
        coco: The file.
        classes: ``metainfo.classes`` of the dataset.

    Raises:
        DataError: When a class has no category, or the order differs.
    """
    names = [category['name'] for category in coco.cats.values()]
    for name in classes:
        if name not in names:
            raise DataError(
                f'{owner}: metainfo.classes names {name!r}, which is no category of the file; {near_names(name, names)}'
            )
    ordered = tuple(name for name in names if name in classes)
    if ordered != tuple(classes):
        raise DataError(
            f'{owner}: mmdet numbers classes in the order of the file, {ordered}; write metainfo.classes in it too, '
            f'not as {tuple(classes)}'
        )


def check_annotations(owner: str, coco: COCO, image_ids: Iterable[int]) -> None:
    """Check the annotations of some images of a COCO file.

    mmdet leaves out what the file gives no size (area 0, or a box narrower than a pixel); that is counted in the log.
    Boxes that reach over the border pass: mmdet's transforms cut them.

    Args:
        owner: Where the file is used, and its name, for the error.
        coco: The file.
        image_ids: The images.

    Raises:
        DataError: When a category is unknown, a mask has another size than its image, cannot be decoded or is empty,
            or a box lies outside its image. Names the first such annotation and counts the others.
    """
    everything = itertools.chain.from_iterable(coco.imgToAnns.values())
    with_masks = any(annotation.get('segmentation') for annotation in everything)
    problems, sizeless = [], 0
    for image_id in image_ids:
        image = coco.imgs[image_id]
        for annotation in coco.imgToAnns.get(image_id, ()):
            problem = _problem(annotation, image, coco.cats, with_masks)
            if problem:
                where = f'annotation {annotation.get("id")} of image {image["file_name"]!r}'
                problems.append(f'{where} {problem}')
            sizeless += not problem and _is_sizeless(annotation)
    if problems:
        more = f' ({len(problems) - 1} more annotations are wrong)' if problems[1:] else ''
        raise DataError(f'{owner}: {problems[0]}; mend it or take it out of the file{more}')
    if sizeless:
        print_log(f'{owner}: {sizeless} objects without a size are left out', 'current')


def _problem(
    annotation: Mapping[str, Any],
    image: Mapping[str, Any],
    categories: Mapping[int, dict],
    with_masks: bool,
) -> str:
    """Return the first thing that is wrong with an annotation, empty when nothing is."""
    category = annotation['category_id']
    if category not in categories:
        known = ', '.join(map(str, list(categories)[:20]))
        return f'has category_id {category!r}, which is none of the categories ({known})'
    problem = with_masks and _mask_problem(annotation, image)
    if problem:
        return problem
    x, y, width, height = annotation['bbox']
    overlaps = x < image['width'] and y < image['height'] and x + width > 0 and y + height > 0
    if overlaps or _is_sizeless(annotation):
        return ''
    size = f'{image["width"]} x {image["height"]}'
    return f'has a box outside its image of {size}: {annotation["bbox"]} (x, y, width, height)'


def _mask_problem(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    mask = annotation.get('segmentation')
    size = [image['height'], image['width']]
    if isinstance(mask, Mapping):
        if list(mask.get('size', ())) != size:
            return f'has a mask of {mask.get("size")} (height, width), its image has {size}'
    elif _is_sizeless(annotation):
        # Polygons of no size are in COCO itself.
        return ''
    try:
        pixels = _count_pixels(mask, size)
    except Exception as error:
        # pycocotools fails in many ways on what is neither polygons nor run lengths.
        return f'has a mask that cannot be decoded ({in_words(error)})'
    return '' if pixels else 'has an empty mask'


def _count_pixels(mask: Any, size: Sequence[int]) -> int:  # noqa: ANN401 - all that JSON can hold
    if isinstance(mask, Mapping):
        packed = isinstance(mask['counts'], (str, bytes))
        return int(coco_mask.area(mask if packed else coco_mask.frPyObjects(mask, *size)))
    # mmdet takes a polygon of fewer than three points for none, pycocotools one of two for a box.
    polygons = [polygon for polygon in mask or () if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not polygons:
        return 0
    return int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))))


def _is_sizeless(annotation: Mapping[str, Any]) -> bool:
    """Tell whether mmdet leaves an annotation out for the area or box that the file gives it."""
    return annotation.get('area', 1) <= 0 or min(annotation['bbox'][2:]) < 1
