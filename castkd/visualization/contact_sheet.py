"""Images with truth and predictions side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.structures.mask import BitmapMasks
from mmdet.visualization.palette import get_palette
from mmengine.structures import InstanceData

from castkd.errors import ConfigError
from castkd.hooks.drawing import captioned, draw_instances, grid, paint_classes, titled

# Longest side of a drawn image in pixels; a sheet holds dozens of them.
CELL_SIDE = 384
# Title of the first column.
IMAGE = 'image'

# Instances of an image, a map of class indices (h, w) with 255 for ignored pixels, or nothing to draw.
Content = InstanceData | np.ndarray | None


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: Mapping[str, Sequence[Content]],
    metainfo: Mapping[str, Any],
    captions: Mapping[str, Sequence[str]] | None = None,
) -> np.ndarray:
    """Draw one row per image: the image, then one column per entry of ``columns``.

    Args:
        images: N images (h, w, 3), uint8, BGR, of any sizes.
        columns: Title -> content for each of the N images, in pixels of the image: instances with ``labels``,
            ``bboxes`` and maybe ``masks`` (bool (n, h, w) or mmdet masks) and ``scores``, or a class map (h, w).
        metainfo: ``classes`` and ``palette`` (RGB, or None for mmdet's default) of the data set.
        captions: Title -> a line of text below each of the N cells, also for the first column, ``image``; None for no
            such lines.

    Returns:
        One image (H, W, 3), uint8, BGR.

    Raises:
        ConfigError: When a column, or its captions, has not one entry per image.
    """
    columns = {IMAGE: [None] * len(images), **columns}
    for kind, given in (('column', columns), ('captions of column', captions or {})):
        for title, entries in given.items():
            if len(entries) != len(images):
                raise ConfigError(
                    f'contact_sheet: {kind} {title!r} has {len(entries)} entries for {len(images)} images'
                )
    classes = tuple(metainfo['classes'])
    palette = get_palette(metainfo.get('palette') or 'coco', len(classes))
    drawn_as = {'classes': classes, 'palette': palette}
    drawn = {
        title: [
            titled(_cell(image, content, drawn_as), title)
            for image, content in zip(images, contents, strict=True)
        ]
        for title, contents in columns.items()
    }
    for title, lines in (captions or {}).items():
        drawn[title] = [
            captioned(cell, line) for cell, line in zip(drawn[title], lines, strict=True)
        ]
    return grid(list(drawn.values()))


def _cell(image: np.ndarray, content: Content, metainfo: Mapping[str, Any]) -> np.ndarray:
    if isinstance(content, np.ndarray):
        image, content = paint_classes(image, content, metainfo['palette']), None
    drawn = draw_instances(image, _with_bitmaps(content), metainfo)
    scale = CELL_SIDE / max(drawn.shape[:2])
    return cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _with_bitmaps(instances: InstanceData | None) -> InstanceData | None:
    """Return instances with masks as the drawing code takes them."""
    if instances is None or 'masks' not in instances or not torch.is_tensor(instances.masks):
        return instances
    masks = instances.masks.cpu().numpy().astype(np.uint8)
    drawn = InstanceData(labels=instances.labels, bboxes=instances.bboxes)
    if 'scores' in instances:
        drawn.scores = instances.scores
    drawn.masks = BitmapMasks(masks, *masks.shape[-2:])
    return drawn


def encode_png(image: np.ndarray) -> bytes:
    """Return an image (h, w, 3), uint8, BGR, as a PNG file's content."""
    return cv2.imencode('.png', image)[1].tobytes()
