"""Camera, shapes and canvas of generated street scenes.

World coordinates are metres: X to the right, Y up, Z ahead of the camera; the ground is Y = 0. Image coordinates are
pixels, with (0, 0) at the top left corner of the top left pixel. Colours are RGB in [0, 255].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

Colour = Sequence[float]

_SHIFT = 4
_NEAREST = 0.5


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera above the ground.

    Attributes:
        focal: Focal length in pixels.
        centre: Column of the vanishing point in pixels.
        horizon: Row of the horizon in pixels.
        height: Height above the ground in metres.
    """

    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return image points (..., 2) of world points (..., 3); points behind the camera are drawn up to it."""
        points = np.asarray(points, dtype=np.float64)
        scale = self.focal / np.maximum(points[..., 2], _NEAREST)
        columns = self.centre + scale * points[..., 0]
        rows = self.horizon + scale * (self.height - points[..., 1])
        return np.stack([columns, rows], axis=-1)

    def ground(self, points: Iterable[Sequence[float]]) -> np.ndarray:
        """Return image points (N, 2) of ground points (N, 2) given as (X, Z)."""
        flat = np.asarray(list(points), dtype=np.float64)
        return self.project(np.stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]], axis=1))

    def depth_at(self, row: float) -> float:
        """Return the distance in metres at which the ground meets an image row below the horizon."""
        return self.focal * self.height / max(row - self.horizon, 1e-3)


@dataclass(frozen=True)
class Shape:
    """A filled polygon.

    Attributes:
        points: Corners in image coordinates, (N, 2).
        colour: RGB.
        opacity: Opacity of the paint in [0, 1]. The polygon belongs to the mask whatever its opacity.
    """

    points: np.ndarray
    colour: Colour
    opacity: float = 1.0


@dataclass
class Item:
    """Something that stands in the scene.

    Attributes:
        label: Cityscapes label name.
        depth: Distance in metres that decides what hides what.
        shapes: Polygons in drawing order.
        footprint: Where it touches the ground, (N, 2) of (X, Z) in metres; empty for no shadow.
        height: Height in metres; how long its shadow is.
    """

    label: str
    depth: float
    shapes: list[Shape]
    footprint: list[tuple[float, float]] = field(default_factory=list)
    height: float = 0.0


class Canvas:
    """An image and the map of what is where.

    Args:
        size: (height, width) in pixels.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        owner: (H, W) int32, index of the item that covers the pixel.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.image = np.zeros((*size, 3), dtype=np.uint8)
        self.owner = np.zeros(size, dtype=np.int32)

    def fill(self, points: np.ndarray, colour: Colour, owner: int | None = None) -> None:
        """Fill a polygon with one colour, without texture."""
        corners = [_fixed(points)]
        cv2.fillPoly(self.image, corners, _colour(colour), cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.fillPoly(self.owner, corners, owner, cv2.LINE_8, _SHIFT)

    def paste(self, texture: np.ndarray, corners: np.ndarray, owner: int) -> None:
        """Paste a texture (h, w, 3) uint8 onto a quadrilateral (4, 2): top left, top right, bottom right, bottom left."""
        box = self._box(corners)
        if box is None:
            return
        left, top, right, bottom = box
        height, width = texture.shape[:2]
        source = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        matrix = cv2.getPerspectiveTransform(source, np.float32(corners - [left, top]))
        patch = cv2.warpPerspective(
            texture, matrix, (right - left, bottom - top), flags=cv2.INTER_AREA
        )
        mask = np.zeros(patch.shape[:2], dtype=np.uint8)
        cv2.fillConvexPoly(mask, _fixed(corners - [left, top]), 1, cv2.LINE_8, _SHIFT)
        inside = mask.astype(bool)
        self.image[top:bottom, left:right][inside] = patch[inside]
        self.owner[top:bottom, left:right][inside] = owner

    def draw(
        self,
        shapes: Sequence[Shape],
        owner: int,
        haze: tuple[float, Colour] = (0.0, (0, 0, 0)),
        grain: np.random.Generator | None = None,
    ) -> None:
        """Draw polygons with smooth edges; a pixel belongs to them when they cover at least half of it.

        Args:
            shapes: Polygons, later ones on top.
            owner: Index to write into :attr:`owner`.
            haze: Share of the haze in [0, 1] and its colour.
            grain: Source of a fine texture, or None for flat paint.
        """
        box = self._box(np.concatenate([shape.points for shape in shapes]))
        if box is None:
            return
        left, top, right, bottom = box
        paint, cover = _render(shapes, box)
        colours, opacity = paint[..., :3], paint[..., 3:] / 255
        rows = np.linspace(1.07, 0.9, bottom - top, dtype=np.float32)[:, None, None]
        colours = colours * rows
        if grain is not None:
            texture = grain.standard_normal((bottom - top, right - left, 1), dtype=np.float32)
            colours = colours + 3.5 * texture * opacity
        share, colour = haze
        colours = colours * (1 - share) + opacity * share * np.float32(colour)
        region = self.image[top:bottom, left:right]
        region[:] = np.clip(region * (1 - opacity) + colours, 0, 255)
        self.owner[top:bottom, left:right][cover >= 128] = owner

    def _box(self, points: np.ndarray) -> tuple[int, int, int, int] | None:
        """Return (left, top, right, bottom) of the visible part of the points' box, or None."""
        height, width = self.size
        left, top = np.floor(points.min(0)).astype(int) - 1
        right, bottom = np.ceil(points.max(0)).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, width), min(bottom, height)
        return (left, top, right, bottom) if left < right and top < bottom else None


def _render(
    shapes: Sequence[Shape], box: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return premultiplied RGBA (h, w, 4) float32 and coverage (h, w) uint8 inside a box."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    factor = 4 if max(size) < 40 else 2
    paint = np.zeros((size[1] * factor, size[0] * factor, 4), dtype=np.uint8)
    cover = np.zeros(paint.shape[:2], dtype=np.uint8)
    for shape in shapes:
        corners = [_fixed((shape.points - [left, top]) * factor)]
        premultiplied = [value * shape.opacity for value in (*_colour(shape.colour), 255.0)]
        cv2.fillPoly(paint, corners, premultiplied, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(cover, corners, 255, cv2.LINE_8, _SHIFT)
    paint = cv2.resize(paint, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 4)
    cover = cv2.resize(cover, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0])
    return paint.astype(np.float32), cover


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return pixel coordinates as OpenCV's fixed-point numbers, whose pixel centres lie at whole numbers."""
    bounded = np.clip(points - 0.5, -8000, 8000)
    return np.round(bounded * (1 << _SHIFT)).astype(np.int32)


def _colour(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (min(max(float(value), 0.0), 255.0) for value in colour)
    return red, green, blue


def shade(colour: Colour, factor: float) -> tuple[float, float, float]:
    """Return a colour made darker (factor below 1) or lighter."""
    return _colour([value * factor for value in colour])


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> tuple[float, float, float]:
    """Return a colour of any hue, with saturation and value (both in [0, 1]) from the given ranges."""
    hue, s, v = rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)
    pixel = cv2.cvtColor(np.float32([[[hue, s, v]]]), cv2.COLOR_HSV2RGB)[0, 0] * 255
    return _colour(pixel)


def ellipse(centre: Sequence[float], radii: Sequence[float], corners: int = 16) -> np.ndarray:
    """Return the corners (N, 2) of a polygon that stands for an ellipse."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(centre) + circle * np.asarray(radii)


def limb(start: Sequence[float], end: Sequence[float], width: float, taper: float = 1.0) -> np.ndarray:
    """Return the corners (4, 2) of a bar from ``start`` to ``end``, ``taper`` times as wide at its end."""
    start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
    along = end - start
    across = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-9) * width / 2
    return np.array([start + across, end + across * taper, end - across * taper, start - across])
