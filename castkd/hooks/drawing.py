"""Views with their instances, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib import font_manager
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.structures import InstanceData
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from castkd.semantic import IGNORE
from castkd.teachers.normalization import InputConverter

# Longest side of a drawn image in pixels: small images are enlarged, so that scores can be read.
LONG_SIDE = 640
_TITLE_HEIGHT = 24
_TEXT_MARGIN = 4
# In pixels; text in the last one can just be read.
_FONT_SIZES = (15, 13, 11)
_GAP = 6
# Share of a class's colour in a painted pixel.
_ALPHA = 0.5


def to_pixels(preprocessor: nn.Module, inputs: Tensor, samples: Sequence[Any]) -> list[np.ndarray]:
    """Undo a network's image normalisation.

    Args:
        preprocessor: The network's data preprocessor.
        inputs: Normalised images, (B, 3, H, W).
        samples: Their B data samples.

    Returns:
        B images (h, w, 3), uint8, BGR, without padding.
    """
    pixels, _ = InputConverter(preprocessor, nn.Identity())(inputs.detach().float(), list(samples))
    images = pixels.clamp(0, 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    shapes = [sample.metainfo['img_shape'][:2] for sample in samples]
    return [image[:height, :width] for image, (height, width) in zip(images, shapes, strict=True)]


def draw_instances(
    image: np.ndarray, instances: InstanceData | None, metainfo: Mapping[str, Any]
) -> np.ndarray:
    """Draw masks, boxes, class names and, where there are any, scores.

    Args:
        image: (h, w, 3), uint8, BGR.
        instances: With ``labels``, ``bboxes``, maybe ``masks`` (BitmapMasks or PolygonMasks, may be padded) and
            ``scores``; None draws nothing.
        metainfo: ``classes`` and ``palette`` of the dataset.

    Returns:
        The drawn image, enlarged or shrunk to a longest side of :data:`LONG_SIDE`, uint8, BGR.
    """
    height, width = image.shape[:2]
    scale = LONG_SIDE / max(height, width)
    size = (round(height * scale), round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    enlarged = cv2.resize(image, size[::-1], interpolation=interpolation)
    if instances is None or len(instances) == 0:
        return enlarged
    drawn = InstanceData(
        labels=instances.labels.cpu(), bboxes=instances.bboxes.float().cpu() * scale
    )
    if 'scores' in instances:
        drawn.scores = instances.scores.float().cpu()
    if 'masks' in instances:
        drawn.masks = instances.masks.crop(np.array([0, 0, width, height])).resize(size)
    visualizer = DetLocalVisualizer(line_width=1, alpha=0.4)
    visualizer.dataset_meta = dict(metainfo)
    # mmdet varies its colours with NumPy's global generator, which augmentation may use as well.
    state = np.random.get_state()
    sample = DetDataSample(gt_instances=drawn)
    visualizer.add_datasample('', enlarged[..., ::-1], sample, draw_pred=False)
    np.random.set_state(state)
    return np.ascontiguousarray(visualizer.get_image()[..., ::-1])


def paint_classes(
    image: np.ndarray, classes: np.ndarray, palette: Sequence[Sequence[int]]
) -> np.ndarray:
    """Mix the colours of a class map into an image; pixels without a class (255) stay.

    Args:
        image: (h, w, 3), uint8, BGR.
        classes: Class per pixel, (h, w).
        palette: RGB colour per class.

    Returns:
        Image of the same form.
    """
    table = np.zeros((IGNORE + 1, 3), np.float32)
    table[: len(palette)] = np.asarray(palette, np.float32)[:, ::-1]
    labels = classes.astype(np.uint8)
    mixed = (1 - _ALPHA) * image + _ALPHA * table[labels]
    return np.where((labels == IGNORE)[..., None], image, mixed).round().astype(np.uint8)


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """Return ``image`` (h, w, 3) with a line of text above it, (h + 24, w, 3)."""
    return np.concatenate([_text_bar(title, image.shape[1]), image])


def captioned(image: np.ndarray, caption: str) -> np.ndarray:
    """Return ``image`` (h, w, 3) with a line of text below it, (h + 24, w, 3)."""
    return np.concatenate([image, _text_bar(caption, image.shape[1])])


def _text_bar(text: str, width: int) -> np.ndarray:
    """Return a line of text, (24, width, 3), uint8; a long one is set smaller, and cut where that is not enough."""
    room = width - 2 * _TEXT_MARGIN
    for size in _FONT_SIZES:
        font = ImageFont.truetype(font_manager.findfont('DejaVu Sans'), size)
        if font.getlength(text) <= room:
            break
    while text and font.getlength(text) > room:
        text = text[:-2] + '\N{HORIZONTAL ELLIPSIS}' if len(text) > 1 else ''
    bar = Image.new('RGB', (width, _TITLE_HEIGHT), 'white')
    # Anchored at the left and in the middle of a line, letters below the base line included.
    ImageDraw.Draw(bar).text(
        (_TEXT_MARGIN, _TITLE_HEIGHT // 2), text, fill='black', font=font, anchor='lm'
    )
    return np.asarray(bar)


def grid(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return one image from columns of images of any size, uint8, with white gaps between them."""
    rows = max(len(column) for column in columns)
    heights = [
        max(column[row].shape[0] for column in columns if row < len(column)) for row in range(rows)
    ]
    widths = [max(image.shape[1] for image in column) for column in columns]
    tops = np.cumsum([0, *(height + _GAP for height in heights)])
    lefts = np.cumsum([0, *(width + _GAP for width in widths)])
    canvas = np.full((tops[-1] - _GAP, lefts[-1] - _GAP, 3), 255, np.uint8)
    for left, column in zip(lefts, columns, strict=False):
        for top, image in zip(tops, column, strict=False):
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas
